"""Ways of learning by name: each of them over modalities in an order."""

import math
import pickle
from typing import Any

import pytest

from clipcore.harmony.comparison import METHODS, Data, UnknownMethod, run_way, way_of
from clipcore.harmony.matrix import average_accuracy, forgetting
from tests.worlds.modalities import ANCHORS, CLASSES, WIDTHS, samples

DATA: Data = {
    name: ([samples(name, 30)], [samples(name, 30, seed=1), samples(name, 9, seed=2)])
    for name in WIDTHS
}
ORDER = ("sound", "photo", "sketch")


def outcome(name: str, order: tuple[str, ...] = ORDER, **more: Any) -> Any:
    usual: dict[str, Any] = {"scale": 17.4, "seed": 0, "steps": 3}
    return run_way(way_of(name), DATA, order, CLASSES, ANCHORS, **(usual | more))


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
    way = way_of("sequential")
    found = run_way(way, data, ORDER, CLASSES, ANCHORS, scale=17.4, seed=0, steps=2)
    assert [math.isnan(row[0]) for row in found.matrix] == [True] * 3
    assert math.isnan(found.routed[0])


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownMethod, match="expected one of the methods harmony, as-written, "):
        way_of("magic")


@pytest.mark.parametrize("seed", [0, 1])
def test_harmony_keeps_what_sequential_training_forgets(seed: int) -> None:
    """On four modalities of digits it keeps 0.5 more, and F is 0.01 (tests/bench/RESULTS.md)."""
    kept, lost = (
        outcome(name, ("photo", "sketch"), seed=seed, steps=40).matrix
        for name in ("harmony", "sequential")
    )
    more = (average_accuracy(kept) or 0) - (average_accuracy(lost) or 0)
    assert more > 0.15
    assert (forgetting(kept) or 0) <= 0.06
