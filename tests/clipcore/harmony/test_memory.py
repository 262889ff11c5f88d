"""Statistics of classes: the same in one piece, in many, and in another order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clipcore.harmony.memory import ClassStatistics
from tests.worlds.tensors import draws


def samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    rows = 100 + torch.randn(count, 3, generator=draws(seed))
    return rows, torch.randint(4, (count,), generator=draws(seed + 1))


def check(one: ClassStatistics, two: ClassStatistics) -> None:
    assert one.count.tolist() == two.count.tolist()
    torch.testing.assert_close(one.mean, two.mean)
    torch.testing.assert_close(one.std, two.std)


@given(count=st.integers(1, 60), cut=st.integers(0, 60), seed=st.integers(0, 5))
def test_pieces_in_any_order_give_the_whole(count: int, cut: int, seed: int) -> None:
    rows, labels = samples(count, seed)
    whole = ClassStatistics.of(rows, labels, 4)
    first, second = (
        ClassStatistics.of(rows[at], labels[at], 4) for at in (slice(cut), slice(cut, None))
    )
    check(first.merged(second), whole)
    check(second.merged(first), whole)


def test_they_are_mean_and_deviation_of_each_class() -> None:
    rows, labels = samples(200, 0)
    found = ClassStatistics.of(rows, labels, 4)
    for k in range(4):
        own = rows[labels == k].double()
        torch.testing.assert_close(found.mean[k], own.mean(dim=0))
        torch.testing.assert_close(found.std[k], own.std(dim=0))


def test_a_class_of_one_has_the_spread_of_all_and_one_of_none_is_absent() -> None:
    rows = torch.tensor([[0.0], [2.0], [9.0]])
    found = ClassStatistics.of(rows, torch.tensor([0, 0, 1]), 3)
    assert found.present.tolist() == [True, True, False]
    assert found.std[:2, 0].tolist() == pytest.approx([2**0.5, 2**0.5])
    grown = found.grown(5)
    assert grown.present.tolist() == [True, True, False, False, False]
    assert torch.equal(grown.mean[:3], found.mean)


def test_it_takes_as_many_bytes_for_any_number_of_samples() -> None:
    few, many = (ClassStatistics.of(*samples(count, 0), 4).num_bytes for count in (8, 800))
    assert few == many == 4 * 8 + 2 * 4 * 3 * 8
