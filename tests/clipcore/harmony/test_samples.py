"""Samples that come in pieces: the same stem, statistics and batches, however they are cut."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from clipcore.harmony.samples import Prepared, output_statistics, prepared
from clipcore.harmony.stage import drawn
from tests.worlds.tensors import draws

COUNT, WIDTH, CLASSES = 40, 6, 3
INPUTS = torch.randn(COUNT, WIDTH, generator=draws(0))
LABELS = torch.arange(COUNT) % CLASSES


def read(size: int) -> tuple[Prepared, int]:
    pieces = list(zip(INPUTS.split(size), LABELS.split(size), strict=True))
    made = prepared(pieces, lambda count: drawn(count, 4, 3, draws(1)), dim=WIDTH, classes=CLASSES)
    features = output_statistics(pieces, lambda rows: 2 * rows, dim=WIDTH, classes=CLASSES)
    torch.testing.assert_close(features.mean[0], 2 * INPUTS[::3].double().mean(dim=0))
    return made, len(pieces)


@given(size=st.integers(1, COUNT))
def test_pieces_of_any_size_prepare_the_same(size: int) -> None:
    whole, _ = read(COUNT)
    cut, _ = read(size)
    torch.testing.assert_close(cut.stem.mean, whole.stem.mean)
    torch.testing.assert_close(cut.h, whole.h)
    torch.testing.assert_close(cut.statistics.mean, whole.statistics.mean)
    torch.testing.assert_close(cut.likeness.variance, whole.likeness.variance)
    assert cut.labels.tolist() == whole.labels.tolist()
    assert [one.tolist() for one in cut.batches] == [one.tolist() for one in whole.batches]


def test_what_is_kept_are_the_samples_that_are_drawn() -> None:
    made, _ = read(7)
    order = drawn(COUNT, 4, 3, draws(1))
    assert len(made.h) == 12 < COUNT
    for rows, positions in zip(made.batches, order, strict=True):
        torch.testing.assert_close(made.h[rows], made.stem(INPUTS[positions]))
        assert torch.equal(made.labels[rows], LABELS[positions])


def test_likeness_is_of_the_inputs() -> None:
    made, _ = read(7)
    torch.testing.assert_close(made.likeness.mean, INPUTS.double().mean(dim=0))
    torch.testing.assert_close(made.likeness.variance, INPUTS.double().var(dim=0, unbiased=False))
