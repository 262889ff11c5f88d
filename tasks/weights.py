"""Learned weights on models: towers with adapters, class embeddings, networks."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore import adapters, checkpoint
from clipcore.adapters import Adapter
from clipcore.backbone import VisualTower
from clipcore.classifier import load_classifier, load_heads
from clipcore.dual import DualLearner
from clipcore.head import DualHead, Head
from clipcore.network import Network
from tasks.backbone import load_backbone
from tasks.compute.epochs import NUM_PARAMETERS, PEAK, Job
from tasks.refs import BackboneRef, PeerRef, Ref
from tasks.storage.checkpoints import read_tensors, write_tensors
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists, local_copy
from tasks.storage.layout import DESCRIPTION
from tasks.storage.manifest import Manifest
from tasks.storage.uris import join

HEADS = "heads.safetensors"
LEFT_OUT = "left_out"  # in the facts of a training: kept labels that it did not learn from
ATTACH = "attach"  # in the header of weights: arguments of `adapters.attach`


def load_visual(name: str, weights: Sequence[str], *, device: str) -> VisualTower:
    """Return the backbone's visual tower with what was learned on it, folder after folder.

    The folder of a classifier stands for the tower of its first network.
    """
    tower = load_backbone(name, device=device).visual
    for number, folder in enumerate(weights, 1):
        if exists(join(folder, DESCRIPTION)):
            tower = read_network(folder).visual.to(device)
            continue
        adapter = attach_learned(tower, folder)
        if number < len(weights):
            adapter.merge()
    return tower.eval()


def tower_digest(backbone: BackboneRef, learned: Sequence[Ref] = ()) -> str:
    """Return what the features of a backbone's tower depend on, with what was learned on it."""
    made_from = (backbone.weights_sha256, backbone.quick_gelu, backbone.preprocess_hash)
    return fingerprint("tower", made_from, [ref.digest for ref in learned])


def attach_learned(tower: VisualTower, folder: str) -> Adapter:
    """Attach the adapter that a folder of weights holds to a visual tower."""
    tensors, header = read_tensors(folder)
    adapter = adapters.attach(tower, generator=torch.Generator(), **header[ATTACH])
    adapter.restore(checkpoint.under("adapter", tensors))
    return adapter


def read_network(folder: str) -> Network:
    """Return the first network of a classifier's folder, on the CPU."""
    with local_copy(folder) as model:
        return load_classifier(model).members[0]


def learned_tensors(learner: DualLearner) -> dict[str, Tensor]:
    """Return the weights of a trained learner: its own tensors, and the head that they end in."""
    head = learner.head()
    return {
        **learner.tensors(),
        "positive": head.positive.embeddings,
        "negative": head.negative,
        "logit_scale": torch.tensor(learner.logit_scale),
    }


def dual_head_of(tensors: dict[str, Tensor]) -> DualHead:
    """Return the head among the tensors of `learned_tensors`."""
    positive = Head(tensors["positive"], float(tensors["logit_scale"]))
    return DualHead(positive, tensors["negative"])


def read_dual_head(folder: str) -> DualHead:
    """Return the class embeddings of both signs that a peer or a round's learner learned."""
    return dual_head_of(read_tensors(folder)[0])


def write_heads(model: str, folder: str) -> None:
    """Write the heads of a classifier, without its towers."""
    with local_copy(model) as path:
        heads = load_heads(path)
    tensors = {f"{name}.{n}": value for n, head in enumerate(heads) for name, value in head.items()}
    write_tensors(folder, HEADS, tensors, {})


def logits_of(folder: str, seen: Sequence[Tensor]) -> Tensor:
    """Return what the heads that `write_heads` wrote say, of shape (heads, images, classes).

    Args:
        folder: Where they were written.
        seen: The images as each member's tower sees them, of shape (images, dim).
    """
    tensors, _ = read_tensors(folder, HEADS)
    logits = [
        F.linear(features, tensors[f"weight.{n}"], tensors[f"bias.{n}"])
        for n, features in enumerate(seen)
    ]
    return torch.stack(logits)


def served_adapters(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the adapters that a served tower has on it; LoRA is merged into the weights."""
    return [] if arguments["name"] == "lora" else [arguments]


def peer_refs(jobs: Sequence[Job], trained: Sequence[tuple[Manifest, bool]]) -> tuple[PeerRef, ...]:
    """Refer to the peers or networks that `epochs.train_jobs` trained, in the order of the jobs."""
    return tuple(
        PeerRef(
            uri=job.folder,
            digest=job.digest,
            seconds=manifest.seconds,
            resumed=resumed,
            peer=job.labels["peer"],
            phase=job.labels["phase"],
            round=job.labels.get("round", 0),
            num_left_out=_count(manifest, LEFT_OUT),
            num_parameters=_count(manifest, NUM_PARAMETERS),
            peak_bytes=_count(manifest, PEAK),
        )
        for job, (manifest, resumed) in zip(jobs, trained, strict=True)
    )


def _count(manifest: Manifest, name: str) -> int:
    return int(str(manifest.facts.get(name, 0)))  # trainings of before have no such fact
