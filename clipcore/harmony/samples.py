"""Samples of a modality: read in pieces; a training keeps of them what it draws."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipcore.harmony.memory import ClassStatistics
from clipcore.harmony.routing import Likeness
from clipcore.harmony.stem import Stem, fit_stem

Samples = Iterable[tuple[Tensor, Tensor]]
"""Inputs of shape (batch, width) and labels (batch), some at a time, equal each time it is read."""

Draw = Callable[[int], Sequence[Tensor]]
"""The number of samples in, positions of those in each batch of a training out."""


@dataclass(frozen=True)
class Prepared:
    """What a training needs of samples; its size depends on how many are drawn, not on all.

    Attributes:
        stem: Fitted to the inputs.
        likeness: Of the inputs.
        statistics: Of what the stem makes of all samples.
        h: What it makes of those that are drawn.
        labels: Theirs.
        batches: Rows of `h` in each batch.
    """

    stem: Stem
    likeness: Likeness
    statistics: ClassStatistics
    h: Float[Tensor, "drawn dim"]
    labels: Int[Tensor, " drawn"]
    batches: Sequence[Tensor]


def prepared(
    samples: Samples, draw: Draw, *, dim: int, classes: int, stem: Stem | None = None
) -> Prepared:
    """Read samples twice: for the stem, and for what it makes of them.

    Args:
        samples: At least one.
        draw: Which of them are trained on, batch by batch.
        dim: Numbers that the stem makes.
        classes: How many there are.
        stem: Of the modality; by default it is fitted.
    """
    own: list[Tensor] = []
    inputs_once = _with_labels_noted(samples, own)
    if stem is None:
        stem = fit_stem(inputs_once, dim=dim)
    else:
        deque(inputs_once, maxlen=0)
    labels = torch.cat(own)
    order = draw(len(labels))
    drawn, rows = torch.cat(list(order)).unique(return_inverse=True)
    made, alike = ClassStatistics.none(classes, dim), ClassStatistics.none(1, stem.width)
    kept, start = list[Tensor](), 0
    for inputs, batch in samples:
        h = stem(inputs)
        made = made.merged(ClassStatistics.of(h, batch, classes))
        alike = alike.merged(ClassStatistics.of(inputs, torch.zeros_like(batch), 1))
        first, last = torch.searchsorted(drawn, torch.tensor([start, start + len(batch)])).tolist()
        kept.append(h[drawn[first:last] - start])
        start += len(batch)
    return Prepared(
        stem,
        Likeness.of(alike),
        made,
        torch.cat(kept),
        labels[drawn],
        rows.split([len(batch) for batch in order]),
    )


def _with_labels_noted(samples: Samples, labels: list[Tensor]) -> Iterator[Tensor]:
    for inputs, batch in samples:
        labels.append(batch)
        yield inputs


@torch.no_grad()
def output_statistics(
    samples: Samples, features: Callable[[Tensor], Tensor], *, dim: int, classes: int
) -> ClassStatistics:
    """Return the statistics of features of all samples, which are read once more."""
    total = ClassStatistics.none(classes, dim)
    for inputs, labels in samples:
        total = total.merged(ClassStatistics.of(features(inputs), labels, classes))
    return total
