"""Ways of learning by name: each of them over modalities in an order."""

import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from clipcore.harmony.comparison import METHODS, Data, UnknownMethod, run_way, way_of
from clipcore.harmony.matrix import forgetting
from tests.worlds.tensors import draws, random_features

CLASSES, WIDTHS = ("one", "two", "three"), {"photo": 20, "sketch": 20, "sound": 12}


def samples(name: str, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return samples in pieces; sketches look like photos that were moved by something."""
    place = torch.randn(len(CLASSES), WIDTHS[name], generator=draws(len(name)))
    labels = torch.arange(count) % len(CLASSES)
    noise = torch.randn(count, WIDTHS[name], generator=draws(seed))
    inputs = 2 * place[labels] + noise + 3 * (name == "sketch")
    return list(zip(inputs.split(20), labels.split(20), strict=True))


DATA: Data = {name: (samples(name, 30, 1), samples(name, 30, 2)) for name in WIDTHS}
ORDER = ("sound", "photo", "sketch")


def outcome(name: str, order: tuple[str, ...] = ORDER, seed: int = 0, **more: Any) -> Any:
    anchors = random_features(len(CLASSES), 24, seed=3)
    return run_way(
        way_of(name), DATA, order, CLASSES, anchors, scale=17.4, seed=seed, steps=3, **more
    )


@pytest.mark.parametrize("name", METHODS)
def test_each_way_fills_its_matrix_and_answers_for_all(name: str) -> None:
    found = outcome(name, ORDER[1:])
    one_row = METHODS[name].learns != "in turn"
    filled = [[not math.isnan(value) for value in row] for row in found.matrix]
    assert filled == ([[True, True]] if one_row else [[True, False], [True, True]])
    assert [0 <= value <= 1 for value in found.routed] == [True, True]
    assert (forgetting(found.matrix) is None) == one_row
    assert found.seconds > 0


def test_ways_can_be_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(dict(METHODS)))  # noqa: S301  # our own
    assert {name: vars(way.method()) for name, way in sent.items()} == {
        name: vars(way.method()) for name, way in METHODS.items()
    }


def test_columns_come_in_the_order_that_is_asked_for() -> None:
    """Sound is of another width: that it is sound need not be said."""
    one, two = (outcome("separate", order) for order in (ORDER, ORDER[::-1]))
    assert one.matrix[0] == two.matrix[0][::-1]
    assert one.routed[0] == one.matrix[0][0]


def test_further_samples_are_measured_by_the_last_model() -> None:
    found = outcome("harmony", further={"again": ("sound", DATA["sound"][1])})
    assert found.further == {"again": found.matrix[-1][0]}
    assert found.matrix == outcome("harmony").matrix


def test_without_samples_to_measure_on_there_is_no_number() -> None:
    data = {**DATA, "sound": (DATA["sound"][0], [])}
    anchors = random_features(len(CLASSES), 24, seed=3)
    found = run_way(
        way_of("sequential"), data, ORDER, CLASSES, anchors, scale=17.4, seed=0, steps=2
    )
    assert [math.isnan(row[0]) for row in found.matrix] == [True] * 3
    assert math.isnan(found.routed[0])


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownMethod, match="expected one of the methods harmony, as-written, "):
        way_of("magic")
