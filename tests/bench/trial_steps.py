"""The steps of coft on images in memory, as its tasks take them, and the remedies between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clipcore import backbone as backbones
from clipcore import checkpoint, cleaning, dual, zero_shot
from clipcore.backbone import Backbone
from clipcore.coft.phase1 import new_peer
from clipcore.coft.phase2 import NO_LABEL, Unlabeled, parameter_groups, train_network
from clipcore.dual import DualLearner
from clipcore.fit import Schedule, TrainingSet, resolve_epochs
from clipcore.head import DualHead, Head
from clipcore.network import Network, interpolate, new_network
from clipcore.seeding import generator
from tasks.backbone import adapter_arguments
from tasks.refs import PEERS
from tasks.specs import CoftSpec
from tasks.storage.digests import fingerprint
from tests.bench.trial_data import Images, encode


@dataclass
class Peer:
    """A peer after Phase I: its tower, its head, and how it sees all images."""

    number: int
    backbone: Backbone
    head: DualHead
    features: Tensor

    @property
    def posterior(self) -> Tensor:
        """Return class probabilities of all images."""
        return self.head.positive.probabilities(self.features)


def in_memory(pixels: Tensor, rows: Tensor, labels: Tensor) -> TrainingSet:
    """Return rows of the images as a training set."""

    def load(batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return (pixels[rows[batch]] for batch in batches)

    return TrainingSet(labels, load)


@torch.inference_mode()
def zero_shot_head(backbone: Backbone, images: Images, spec: CoftSpec) -> Head:
    """Return the head that sentences give."""
    embeddings = zero_shot.class_embeddings(backbone, images.classes, spec.label.templates)
    return Head(embeddings, backbone.logit_scale)


def confident_rows(
    posterior: Tensor, spec: CoftSpec, *, more: float = 1.0, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return rows and labels that start Phase I, as `tasks.label.confident` chooses them.

    Args:
        posterior: Class probabilities of the pool.
        spec: How many of each class.
        more: Times as many.
        share: At most this share of what is predicted as a class, down to `top.per_class`.
    """
    top, num_classes = spec.label.top, posterior.shape[1]
    per_class = cleaning.resolve_per_class(
        top.per_class, num_classes=num_classes, minimum_total=top.min_total
    )
    per_class = round(more * per_class)
    confidence, labels = posterior.max(dim=1)
    counts = torch.bincount(labels, minlength=num_classes)
    most = (share * counts).long().clamp(min=min(top.per_class, per_class), max=per_class)
    rows = cleaning.top_k_per_class(
        confidence, labels, num_classes=num_classes, per_class=per_class
    )
    rows = torch.cat([rows[labels[rows] == k][: most[k]] for k in range(num_classes)])
    labels = labels[rows]
    for label in sorted(set(range(num_classes)) - set(labels.tolist())):
        scores = posterior[:, label].clone()
        scores[rows] = -1
        best = scores.topk(min(int(most[label]), len(scores) - len(rows))).indices
        rows, labels = torch.cat([rows, best]), torch.cat([labels, torch.full_like(best, label)])
    order = rows.argsort()
    return rows[order], labels[order]


def adapt_peer(
    number: int,
    images: Images,
    confident: tuple[Tensor, Tensor],
    spec: CoftSpec,
    kept: Path,
    trained: Path | None,
) -> Peer:
    """Train one peer of Phase I, or take it from a folder where an equal one was kept.

    Args:
        number: Of the peer.
        images: What it sees.
        confident: Rows and labels that it learns from.
        spec: How.
        kept: Where it is kept.
        trained: A folder of weights of `coft adapt`, to be used in its place.
    """
    one, settings = backbones.load(spec.backbone.name), spec.phase1
    peer = new_peer(
        one,
        images.classes,
        generator=generator(spec.seed, "phase1", number),
        prompts=settings.prompts.model_dump(),
        adapter=adapter_arguments(settings.adapter, one.visual.kind),
        flip=spec.flip,
    )
    made_from = (images.pixels.sum().item(), confident[0].tolist(), confident[1].tolist())
    file = kept / f"peer-{fingerprint(number, spec.seed, spec.backbone, spec.phase1, made_from)}.st"
    if trained is not None:
        file = trained / "weights.safetensors"
    elif not file.exists():
        _train_peer(peer, number, images, confident, spec)
        file.write_bytes(checkpoint.to_bytes(peer.tensors(), {}))
    peer.restore(checkpoint.read(str(file))[0])
    peer.images.adapter.merge()  # type: ignore[attr-defined]
    one.visual.eval()
    return Peer(number, one, peer.head(), encode(one, images.pixels))


def _train_peer(
    peer: DualLearner,
    number: int,
    images: Images,
    confident: tuple[Tensor, Tensor],
    spec: CoftSpec,
) -> None:
    settings, (rows, labels) = spec.phase1, confident
    sgd = settings.sgd
    optimizer = torch.optim.SGD(
        peer.learned(), sgd.learning_rate, sgd.momentum, weight_decay=sgd.weight_decay, fused=True
    )
    epochs = resolve_epochs(
        settings.epochs,
        num_samples=len(rows),
        batch_size=settings.batch_size,
        min_steps=settings.min_steps,
    )
    schedule = Schedule(
        epochs=epochs,
        batch_size=settings.batch_size,
        seed=spec.seed,
        stream=f"phase1/{number}",
    )
    data = in_memory(images.pixels, rows, labels)
    list(dual.train(peer, optimizer, data, schedule, epochs=range(epochs)))


def adapt_peers(
    images: Images,
    confident: Sequence[tuple[Tensor, Tensor]],
    spec: CoftSpec,
    kept: Path,
    *,
    trained: Sequence[Path] | None = None,
) -> tuple[Peer, Peer]:
    """Train both peers, each on its own labels; see `adapt_peer`."""
    one, two = (
        adapt_peer(number, images, labels, spec, kept, weights)
        for number, labels, weights in zip(PEERS, confident, trained or (None, None), strict=True)
    )
    return one, two


def cross_filtered(
    labels: Sequence[Tensor], peers: Sequence[Peer], images: Images, spec: CoftSpec
) -> list[Tensor]:
    """Return, for each peer's labels of the pool, which ones the other peer keeps."""
    kept = []
    for own, other in ((0, 1), (1, 0)):
        gap = peers[other].head.gap(peers[other].features[: images.num_pool], labels[own])
        keep = cleaning.cross_filter(gap) & ~images.is_held_out
        kept.append(_with_rescued(keep, gap, labels[own], images, spec))
    return kept


def _with_rescued(
    keep: Tensor, gap: Tensor, labels: Tensor, images: Images, spec: CoftSpec
) -> Tensor:
    num_classes = len(images.classes)
    (free,) = (~images.is_held_out).nonzero(as_tuple=True)
    top = cleaning.top_k_per_class(
        gap[free], labels[free], num_classes=num_classes, per_class=spec.phase2.min_kept
    )
    counts = torch.bincount(labels[keep], minlength=num_classes)
    best = free[top]
    keep = keep.clone()
    keep[best[counts[labels[best]] < spec.phase2.min_kept]] = True
    return keep


@dataclass
class Training:
    """One network of Phase II and what it started from."""

    network: Network
    start: dict[str, Tensor]


def start_training(peer: Peer) -> Training:
    """Return the network that predicts as the peer does."""
    head = peer.head.positive
    network = new_network(peer.backbone.visual, head.embeddings.clone(), head.logit_scale)
    return Training(network, copied(network))


def copied(network: Network) -> dict[str, Tensor]:
    """Return a copy of the state."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def finetune(  # noqa: PLR0913  # what one epoch depends on
    training: Training,
    number: int,
    images: Images,
    kept: tuple[Tensor, Tensor],
    spec: CoftSpec,
    *,
    optimizer: torch.optim.Optimizer,
    epochs: tuple[int, int],
    unlabeled: Unlabeled | None,
) -> dict[str, float]:
    """Train one epoch of so many on rows and labels; beside them, on all that is not held out."""
    epoch, total = epochs
    rows, labels = kept
    if unlabeled is not None:
        (others,) = (~images.is_held_out).nonzero(as_tuple=True)
        labels = torch.cat([labels, torch.full_like(others, NO_LABEL)])
        rows = torch.cat([rows, others])
    schedule = Schedule(
        epochs=total,
        batch_size=spec.phase2.batch_size,
        seed=spec.seed,
        stream=f"phase2/{number}",
    )
    (row,) = train_network(
        training.network,
        optimizer,
        in_memory(images.pixels, rows, labels),
        schedule,
        norm_statistics=spec.phase2.norm_statistics,
        flip=spec.flip,
        epochs=range(epoch, epoch + 1),
        unlabeled=[] if unlabeled is None else [unlabeled],
    )
    return row


def new_optimizer(training: Training, spec: CoftSpec) -> torch.optim.Optimizer:
    """Return Phase II's AdamW."""
    groups = parameter_groups(
        training.network,
        learning_rate=spec.phase2.learning_rate,
        head_learning_rate=spec.phase2.head_learning_rate,
    )
    return torch.optim.AdamW(groups, weight_decay=spec.phase2.weight_decay, fused=True)


@torch.no_grad()
def logits_of(network: Network, pixels: Tensor) -> Tensor:
    """Return logits of images."""
    network.eval()
    return network.logits(encode(network, pixels).clone())


def mixed_logits(training: Training, alphas: Sequence[float], pixels: Tensor) -> list[Tensor]:
    """Return logits of the network mixed with its start."""
    end = copied(training.network)
    states = [interpolate(training.start, end, alpha) for alpha in alphas]
    return logits_of_states(training.network, states, pixels)


def logits_of_states(
    network: Network, states: Sequence[dict[str, Tensor]], pixels: Tensor
) -> list[Tensor]:
    """Return logits of the network with other weights, which it does not keep."""
    end, found = copied(network), []
    for state in states:
        network.load_state_dict(state)
        found.append(logits_of(network, pixels))
    network.load_state_dict(end)
    return found
