"""Phase II: the whole visual tower and a linear head, on labels that were kept (CoFT 3.2)."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.optim import Optimizer

from clipcore.augment import random_view, view_size
from clipcore.fit import Batches, Schedule, TrainingSet, fit, mixed_batches
from clipcore.network import (
    Network,
    encode_in_training,
    freeze_norm_statistics,
    quick_in_training,
)

NormStatistics = Literal["frozen", "updated"]
NO_LABEL = -1


def parameter_groups(
    network: Network, *, learning_rate: float, head_learning_rate: float
) -> list[dict[str, object]]:
    """Return the whole tower and the head as optimizer groups with their learning rates."""
    network.requires_grad_(requires_grad=True)
    return [
        {"params": list(network.visual.parameters()), "lr": learning_rate},
        {"params": list(network.head.parameters()), "lr": head_learning_rate},
    ]


@runtime_checkable
class Unlabeled(Protocol):
    """What Phase II learns from images whose labels it does not use."""

    @property
    def name(self) -> str:
        """Return what its loss is called in the history."""

    @property
    def weight(self) -> float:
        """Return the weight of its loss beside the cross-entropy."""

    def view(self, pixels: Tensor, draws: Generator) -> Tensor:
        """Return the input of the tower that is made of a batch of pixels."""

    def loss(self, features: Tensor) -> Tensor:
        """Return the loss for the features of the view that was returned last."""

    def tensors(self) -> dict[str, Tensor]:
        """Return its state, for a checkpoint."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""


def train_network(  # noqa: PLR0913  # each is one choice of the paper
    network: Network,
    optimizer: Optimizer,
    data: TrainingSet,
    schedule: Schedule,
    *,
    norm_statistics: NormStatistics = "frozen",
    flip: bool = True,
    epochs: range,
    unlabeled: Sequence[Unlabeled] = (),
) -> Iterator[dict[str, float]]:
    r"""Minimise plain cross-entropy over the clean set (CoFT Eq. 7); yield the mean of each epoch.

    Args:
        network: What learns.
        optimizer: Over its `parameter_groups`.
        data: The clean set. With `unlabeled`, after it the images without labels, whose label is
            `NO_LABEL`; an image may be among both.
        schedule: Epochs, batch size, seed. With `unlabeled` an epoch goes once through the kind
            that lasts longer, and a batch has as many images of each kind.
        norm_statistics: "frozen" keeps the running mean and variance of batch norms. They are then
            part of the convolutions before them, where training is in fp32.
        flip: Whether a mirrored image shows the same class.
        epochs: Which epochs of the schedule to run now.
        unlabeled: What is minimised beside it, $L + \sum_u \gamma_u L_u$ (CoFT Eq. 10).
    """
    device = network.head.weight.device
    size = view_size(network.visual)
    is_frozen = norm_statistics == "frozen"
    visual = quick_in_training(network.visual) if is_frozen else network.visual

    def loss_terms(pixels: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        count = int((labels != NO_LABEL).sum())
        x = visual.to_input(pixels[:count])
        views = [random_view(x, generator=draws, size=size, flip=flip)]
        views += [one.view(pixels[count:], draws) for one in unlabeled]
        features = encode_in_training(visual, torch.cat(views))
        labeled, *others = features.split([len(view) for view in views])
        labels = labels[:count].to(device, non_blocking=True)
        loss = F.cross_entropy(network.logits(labeled), labels)
        if not unlabeled:
            return {"loss": loss}
        terms = {one.name: one.loss(seen) for one, seen in zip(unlabeled, others, strict=True)}
        total = loss + sum(one.weight * terms[one.name] for one in unlabeled)
        return {"loss": total, "cross_entropy": loss, **terms}

    batches = _both_kinds(data, schedule) if unlabeled else None
    for epoch in epochs:
        visual.train()
        if is_frozen:
            freeze_norm_statistics(visual)
        now = range(epoch, epoch + 1)
        yield from fit(optimizer, loss_terms, data, schedule, epochs=now, batches=batches)
        visual.eval()
    network.eval()


def _both_kinds(data: TrainingSet, schedule: Schedule) -> Batches:
    num_labeled = int((data.labels != NO_LABEL).sum())
    return mixed_batches(
        num_labeled,
        len(data.labels) - num_labeled,
        labeled_batch=schedule.batch_size,
        other_batch=schedule.batch_size,
    )
