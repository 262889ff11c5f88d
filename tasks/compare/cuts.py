"""The images of each balance, and those whose labels are told: drawn from the labels, by hashes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from clipcore.seeding import generator
from tasks.compare.specs import Balance

RATIO = 10  # of the largest class to the smallest one of a long tail


def shares(counts: Sequence[int], balance: Balance) -> list[float]:
    """Return the share of each class's images that a balance keeps.

    Which class is rare or absent is drawn once, the same for every seed and both splits.

    Args:
        counts: Images of each class, in one split.
        balance: How the classes are to be spread.
    """
    num_classes = len(counts)
    if balance == "as-is":
        return [1.0] * num_classes
    if balance == "uniform":
        smallest = min((count for count in counts if count), default=0)
        return [smallest / count if count else 0.0 for count in counts]
    ranks = torch.randperm(num_classes, generator=generator(0, "balance")).argsort().tolist()
    if balance == "half-absent":
        return [float(rank < max(1, num_classes // 2)) for rank in ranks]
    return [float(RATIO ** (-rank / max(1, num_classes - 1))) for rank in ranks]


def chosen_rows(labels: np.ndarray, balance: Balance, num_classes: int) -> np.ndarray:
    """Return the positions that a balance keeps, in order.

    Of each class the first ones: where rows are in the order of ids, which are hashes of contents,
    that is a fair draw, and the same on every machine.

    Args:
        labels: Class numbers of one split, in the order of ids.
        balance: How the classes are to be spread.
        num_classes: How many classes there are.
    """
    counts = np.bincount(labels, minlength=num_classes)
    kept = [
        np.flatnonzero(labels == number)[: round(share * count)]
        for number, (share, count) in enumerate(
            zip(shares(counts.tolist(), balance), counts, strict=True)
        )
    ]
    return np.sort(np.concatenate(kept))


class Rows(NamedTuple):
    """Positions of the images of a balance, in order."""

    pool: np.ndarray
    test: np.ndarray


def rows_of_splits(
    labels: np.ndarray, is_test: np.ndarray, balance: Balance, num_classes: int
) -> Rows:
    """Return the positions that a balance keeps of the pool and of the test images.

    As they are, images without a label stay; where classes are cut, they cannot.

    Args:
        labels: Class numbers in the order of ids, -1 for none.
        is_test: Which images are for testing.
        balance: How the classes are to be spread.
        num_classes: How many classes there are.
    """
    if balance == "as-is":
        return Rows(np.flatnonzero(~is_test), np.flatnonzero(is_test))
    pool, test = (np.flatnonzero((labels >= 0) & (is_test == split)) for split in (False, True))
    kept = (own[chosen_rows(labels[own], balance, num_classes)] for own in (pool, test))
    return Rows(*kept)


def told_labels(labels: torch.Tensor, shots: int, seed: int) -> torch.Tensor:
    """Return the labels of `shots` images of each class drawn at random, and -1 for all others."""
    order = torch.randperm(len(labels), generator=generator(seed, "shots"))
    told = torch.full_like(labels, -1)
    for label in labels[labels >= 0].unique().tolist():
        first = order[labels[order] == label][:shots]
        told[first] = label
    return told
