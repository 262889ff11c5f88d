"""Which modality a sample is of."""

import math

import pytest
import torch

from clipcore.harmony.memory import ClassStatistics
from clipcore.harmony.routing import Likeness, route
from tests.worlds.tensors import draws


def inputs(width: int, place: float, seed: int, count: int = 200) -> torch.Tensor:
    return place + torch.randn(count, width, generator=draws(seed))


def likeness(rows: torch.Tensor) -> Likeness:
    return Likeness.of(ClassStatistics.of(rows, torch.zeros(len(rows), dtype=torch.long), 1))


KNOWN = {
    "photo": likeness(inputs(8, 0.0, 0)),
    "sketch": likeness(inputs(8, 3.0, 1)),
    "sound": likeness(inputs(5, 0.0, 2)),
}


def test_it_is_the_log_of_a_normal_density() -> None:
    one = KNOWN["sound"]
    sample = inputs(5, 0.5, 9, count=1)
    expected = 0.0
    for x, mean, variance in zip(sample[0], one.mean, one.variance, strict=True):
        v = float(variance) + 1e-6 * float(one.variance.mean())
        expected -= 0.5 * ((float(x) - float(mean)) ** 2 / v + math.log(2 * math.pi * v))
    assert float(one.log_likelihood(sample)[0]) == pytest.approx(expected / 5, rel=1e-6)


def test_another_width_is_another_modality() -> None:
    names, sure = route(inputs(5, 3.0, 3), KNOWN)
    assert set(names) == {"sound"}
    assert bool((sure == 1).all())


def test_samples_go_where_they_look_alike_in_any_order() -> None:
    both = torch.cat([inputs(8, 0.0, 4), inputs(8, 3.0, 5)])
    names, sure = route(both, KNOWN)
    assert names.count("photo") == names.count("sketch") == 200
    assert set(names[:200]) == {"photo"}
    assert float(sure.min()) > 0.9
    order = torch.randperm(400, generator=draws())
    again, _ = route(both[order], KNOWN)
    assert again == [names[index] for index in order.tolist()]


def test_of_equal_ones_the_earlier_is_taken() -> None:
    twins = {"first": KNOWN["photo"], "second": KNOWN["photo"]}
    names, sure = route(inputs(8, 0.0, 6), twins)
    assert set(names) == {"first"}
    assert sure.tolist() == pytest.approx([0.5] * 200)


def test_an_unknown_width_is_told_with_those_known() -> None:
    with pytest.raises(ValueError, match=r"photo 8, sketch 8, sound 5\), got 7"):
        route(inputs(7, 0.0, 7), KNOWN)


def test_a_number_that_never_changes_decides_nothing_by_itself() -> None:
    constant = torch.cat([inputs(7, 0.0, 8), torch.ones(200, 1)], dim=1)
    known = {"constant": likeness(constant)}
    assert bool(torch.isfinite(known["constant"].log_likelihood(constant)).all())
