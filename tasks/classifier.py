"""From trained networks, or from zero-shot alone, to the classifier that is served."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.checkpoint import tensors_sha256
from clipcore.classifier import save_classifier
from clipcore.coft import guard
from clipcore.coft.guard import Candidate
from clipcore.network import interpolate, new_network
from tasks.backbone import adapter_arguments, load_backbone
from tasks.label.by_head import read_head
from tasks.progress import say
from tasks.refs import BackboneRef, LabelsRef, ModelRef, PeerRef, TaskRef
from tasks.specs import CoftSpec, Phase2Spec, RuntimeSpec
from tasks.storage.checkpoints import read_tensors
from tasks.storage.digests import fingerprint
from tasks.storage.files import write_bytes
from tasks.storage.layout import EPOCH_WEIGHTS, HELD_OUT_LOGITS, TOWERS, Folder, in_workspace
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join
from tasks.weights import served_adapters, tower_digest


@step("combine networks")
def combine(
    networks: Sequence[PeerRef], task: TaskRef, backbone: BackboneRef, spec: CoftSpec
) -> ModelRef:
    """Choose, without labels, the epoch and the mix with Phase I, and write both networks.

    The guard takes what the two networks agree on most, on images that neither was trained on
    (WiSE-FT interpolation and early stop in one choice). The classifier is their mean softmax.
    """
    phase2 = spec.phase2
    digest = fingerprint(
        Folder.MODELS, [network.digest for network in networks], phase2.wise_alphas
    )

    def write(folder: str) -> dict[str, Any]:
        candidates, num_images = _candidates(networks, phase2)
        best = guard.choose(candidates, num_images=num_images)
        _say_choice(candidates, best)
        members = [_mixed(network.uri, best) for network in networks]
        facts = {
            "method": spec.method,
            "epoch": best.epoch + 1,
            "alpha": best.alpha,
            "candidates": [_as_fact(candidate) for candidate in candidates],
        }
        attached = (
            served_adapters(adapter_arguments(spec.phase1.adapter, backbone.kind))
            if phase2.start == "phase1" and spec.student is None
            else ()
        )
        save_model(folder, members, task, load_backbone(backbone.name), facts, attached)
        return facts

    return _model_once(spec.runtime, digest, write)


@step("zero-shot model")
def zero_shot_model(
    zero_shot: LabelsRef, task: TaskRef, backbone: BackboneRef, spec: CoftSpec
) -> ModelRef:
    """Write CLIP itself as a classifier: the original tower, and a head from the templates."""
    digest = fingerprint(Folder.MODELS, "zero-shot", zero_shot.digest)

    def write(folder: str) -> dict[str, Any]:
        head = read_head(zero_shot.uri)
        loaded = load_backbone(backbone.name)
        state = new_network(loaded.visual, head.embeddings, head.logit_scale).state_dict()
        facts = {"method": "zero-shot", TOWERS: [tower_digest(backbone)]}
        save_model(folder, [state], task, loaded, facts, ())
        return facts

    return _model_once(spec.runtime, digest, write)


def _candidates(networks: Sequence[PeerRef], spec: Phase2Spec) -> tuple[list[Candidate], int]:
    """Return every epoch and mix with the networks' agreement, and on how many images that is."""
    candidates = []
    num_images = 0
    for epoch in range(spec.epochs):
        one, two = (
            read_tensors(network.uri, HELD_OUT_LOGITS.format(epoch))[0] for network in networks
        )
        for alpha in spec.wise_alphas:
            agreement = guard.peer_agreement(one[str(alpha)], two[str(alpha)])
            candidates.append(Candidate(epoch=epoch, alpha=alpha, agreement=agreement))
            num_images = len(one[str(alpha)])
    return candidates, num_images


def _as_fact(candidate: Candidate) -> dict[str, JsonValue]:
    """Return a candidate as JSON has it: where nothing was held out, there is no agreement."""
    known = math.isfinite(candidate.agreement)
    return {**vars(candidate), "agreement": candidate.agreement if known else None}


def _say_choice(candidates: Sequence[Candidate], best: Candidate) -> None:
    if not math.isfinite(best.agreement):
        say(f"Guard: epoch {best.epoch + 1}; too few labels were kept to hold images out of them.")
        return
    start = next((item.agreement for item in candidates if item.alpha == 0), float("nan"))
    say(
        f"Guard: epoch {best.epoch + 1}, {best.alpha:.0%} of the way from Phase I; the networks "
        f"agree on {best.agreement:.1%} of the held-out images ({start:.1%} before Phase II)"
    )


def _mixed(folder: str, choice: Candidate) -> dict[str, Tensor]:
    start, _ = read_tensors(folder)
    end, _ = read_tensors(folder, EPOCH_WEIGHTS.format(choice.epoch))
    return interpolate(start, end, choice.alpha)


def save_model(  # what a classifier is made of
    folder: str,
    members: Sequence[Mapping[str, Tensor]],
    task: TaskRef,
    backbone: Backbone,
    facts: Mapping[str, Any],
    attached: Sequence[Mapping[str, Any]],
) -> None:
    """Write a classifier of networks' states to any URI; `model.json` is sent last.

    Unless the facts name the towers, each is named by its weights.
    """
    towers = [_digest_of(state, backbone, attached) for state in members]
    with tempfile.TemporaryDirectory(prefix="coft-model-") as temporary:
        save_classifier(
            Path(temporary),
            members,
            classes=task.classes,
            config=backbone.config,
            preprocess=backbone.visual.preprocess,
            attached=attached,
            facts={TOWERS: towers, **facts, "backbone": backbone.name},
        )
        for path in sorted(Path(temporary).iterdir(), reverse=True):  # safetensors, then JSON
            write_bytes(join(folder, path.name), path.read_bytes())


def _digest_of(
    state: Mapping[str, Tensor], backbone: Backbone, attached: Sequence[Mapping[str, Any]]
) -> str:
    """Return what the features of a network's tower depend on."""
    visual = {name: value for name, value in state.items() if name.startswith("visual.")}
    made_from = (backbone.config, backbone.visual.preprocess.digest(), list(attached))
    return fingerprint("tower", tensors_sha256(visual), made_from)


def _model_once(
    runtime: RuntimeSpec, digest: str, write: Callable[[str], dict[str, Any]]
) -> ModelRef:
    folder = in_workspace(runtime.workspace, Folder.MODELS, digest)
    manifest, resumed = once(
        folder,
        kind=Folder.MODELS,
        digest=digest,
        label="Model",
        compute=lambda: Outcome(parts=(), facts=write(folder)),
    )
    return ModelRef(
        uri=folder, digest=digest, seconds=manifest.seconds, resumed=resumed, facts=manifest.facts
    )
