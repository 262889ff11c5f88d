"""Balances that are cut from labels, and labels that are told."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from tasks.compare.cuts import RATIO, chosen_rows, shares, told_labels
from tasks.compare.specs import Balance


def counted(labels: np.ndarray, balance: Balance, classes: int) -> list[int]:
    rows = chosen_rows(labels, balance, classes)
    assert np.array_equal(rows, np.unique(rows))
    return np.bincount(labels[rows], minlength=classes).tolist()


LABELS = np.repeat(np.arange(6), [100, 40, 100, 60, 100, 100])


def test_as_is_keeps_all_and_uniform_the_smallest_class_of_each() -> None:
    assert counted(LABELS, "as-is", 6) == [100, 40, 100, 60, 100, 100]
    assert counted(LABELS, "uniform", 6) == [40] * 6


def test_half_of_the_classes_are_absent_and_the_others_whole() -> None:
    counts = counted(LABELS, "half-absent", 6)
    assert counts.count(0) == 3
    assert all(
        count in (0, whole) for count, whole in zip(counts, np.bincount(LABELS), strict=True)
    )


def test_a_long_tail_falls_to_a_tenth() -> None:
    kept = sorted(shares([100] * 6, "long-tail"), reverse=True)
    assert kept[0] == 1.0
    assert kept[-1] == pytest.approx(1 / RATIO)
    assert [one / two for one, two in pairwise(kept)] == pytest.approx([RATIO ** (1 / 5)] * 5)


def test_a_class_without_images_does_not_empty_the_others() -> None:
    assert counted(np.array([0, 0, 2, 2, 2]), "uniform", 3) == [2, 0, 2]


def test_both_splits_lack_the_same_classes() -> None:
    one, two = (counted(np.repeat(np.arange(6), n), "half-absent", 6) for n in (10, 3))
    assert [count > 0 for count in one] == [count > 0 for count in two]


def test_so_many_labels_of_each_class_are_told_by_the_seed() -> None:
    labels = torch.arange(4).repeat_interleave(10)
    told = told_labels(labels, 3, seed=0)
    assert torch.bincount(told[told >= 0]).tolist() == [3, 3, 3, 3]
    assert torch.equal(told[told >= 0], labels[told >= 0])
    assert torch.equal(told, told_labels(labels, 3, seed=0))
    assert not torch.equal(told, told_labels(labels, 3, seed=1))


def test_images_without_a_label_are_not_told() -> None:
    labels = torch.tensor([-1, 0, -1, 1, 0])
    told = told_labels(labels, 5, seed=0)
    assert told.tolist() == [-1, 0, -1, 1, 0]
