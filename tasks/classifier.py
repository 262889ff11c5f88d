"""From trained networks, or from zero-shot alone, to the classifier that is served."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.checkpoint import tensors_sha256
from clipcore.classifier import save_classifier
from clipcore.coft.guard import PHASE_1, ZERO_SHOT, Candidate
from clipcore.energy import energies, quantiles
from clipcore.network import interpolate, new_network
from tasks.backbone import adapter_arguments, load_backbone
from tasks.guard import choose_end
from tasks.label.by_head import read_head
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, LabelsRef, ModelRef, PeerRef, TaskRef
from tasks.specs import CoftSpec, RuntimeSpec
from tasks.storage.checkpoints import read_tensors
from tasks.storage.digests import fingerprint
from tasks.storage.files import write_bytes
from tasks.storage.layout import (
    ENERGIES,
    EPOCH_WEIGHTS,
    HELD_OUT_LOGITS,
    TOWERS,
    Folder,
    in_workspace,
)
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join
from tasks.weights import served_adapters, tower_digest

GUARD = "by what zero-shot does not read"  # another rule chooses another end


@step("combine networks")
def combine(  # noqa: PLR0913, PLR0917  # what the guard looks at
    networks: Sequence[PeerRef],
    zero_shot: LabelsRef,
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
) -> ModelRef:
    """Choose, without labels, CLIP itself, Phase I or an epoch and a mix, and write the model.

    The guard goes as far as what the networks say of images that neither was trained on stays
    coherent (early stop and WiSE-FT interpolation in one choice). The classifier is their mean
    softmax.

    Args:
        networks: Both networks of Phase II.
        zero_shot: CLIP's own labels, and the head that gave them.
        embeddings: The images as CLIP sees them.
        images: The images.
        task: The classes.
        backbone: Whose tower the networks have.
        spec: `phase2`, and where to run.
    """
    digest = fingerprint(
        Folder.MODELS,
        [network.digest for network in networks],
        (zero_shot.digest, spec.phase2.wise_alphas, GUARD),
    )

    def write(folder: str) -> dict[str, Any]:
        choice = choose_end(
            networks,
            zero_shot,
            embeddings,
            images,
            task,
            spec.phase2,
            class_embeddings=read_head(zero_shot.uri).embeddings,
            with_zero_shot=spec.student is None,
        )
        facts = {"method": spec.method, **choice.facts}
        if choice.best.epoch == ZERO_SHOT:
            _save_zero_shot(folder, zero_shot, task, backbone, facts)
            return facts
        members = [_mixed(network.uri, choice.best) for network in networks]
        pool = quantiles(energies(torch.stack(_logits(networks, choice.best))))
        attached = (
            served_adapters(adapter_arguments(spec.phase1.adapter, backbone.kind))
            if spec.phase2.start == "phase1" and spec.student is None
            else ()
        )
        told = {**facts, ENERGIES: pool}
        save_model(folder, members, task, load_backbone(backbone.name), told, attached)
        return facts

    return model_once(spec.runtime, digest, write)


@step("zero-shot model")
def zero_shot_model(
    zero_shot: LabelsRef, task: TaskRef, backbone: BackboneRef, spec: CoftSpec
) -> ModelRef:
    """Write CLIP itself as a classifier: the original tower, and a head from the templates."""
    digest = fingerprint(Folder.MODELS, "zero-shot", zero_shot.digest)

    def write(folder: str) -> dict[str, Any]:
        facts = {"method": "zero-shot"}
        _save_zero_shot(folder, zero_shot, task, backbone, facts)
        return facts

    return model_once(spec.runtime, digest, write)


def _save_zero_shot(
    folder: str, zero_shot: LabelsRef, task: TaskRef, backbone: BackboneRef, facts: dict[str, Any]
) -> None:
    head = read_head(zero_shot.uri)
    loaded = load_backbone(backbone.name)
    state = new_network(loaded.visual, head.embeddings, head.logit_scale).state_dict()
    facts[TOWERS] = [tower_digest(backbone)]
    save_model(folder, [state], task, loaded, facts, ())


def _logits(networks: Sequence[PeerRef], choice: Candidate) -> list[Tensor]:
    """Return what each network says of the images that neither was trained on."""
    name = HELD_OUT_LOGITS.format(max(0, choice.epoch))  # Phase I is a mix of any epoch
    return [read_tensors(network.uri, name)[0][str(choice.alpha)] for network in networks]


def _mixed(folder: str, choice: Candidate) -> dict[str, Tensor]:
    start, _ = read_tensors(folder)
    if choice.epoch == PHASE_1:
        return start
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


def model_once(
    runtime: RuntimeSpec, digest: str, write: Callable[[str], dict[str, Any]]
) -> ModelRef:
    """Return the model of a digest, written if it is not there.

    Args:
        runtime: Whose workspace has it.
        digest: Of everything that it is made from.
        write: Called with the folder; returns the facts.
    """
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
