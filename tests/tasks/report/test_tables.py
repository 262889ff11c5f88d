"""Rows of tables, worked out from counts."""

import numpy as np
import pytest

from tasks.refs import StageName
from tasks.report.inputs import StageTime
from tasks.report.tables import bottleneck, confused_pairs, moves


def test_confused_pairs_are_the_largest_off_diagonal_counts() -> None:
    counts = np.array([[5, 3, 0], [0, 9, 1], [7, 0, 1]])
    pairs = confused_pairs(counts, ("a", "b", "c"), None)
    assert [(pair.true, pair.predicted, pair.count) for pair in pairs] == [
        ("c", "a", 7),
        ("a", "b", 3),
        ("b", "c", 1),
    ]
    assert pairs[0].share == pytest.approx(7 / 8)


def test_moves_count_only_images_of_both_labelings() -> None:
    before = {"1": "a", "2": "a", "3": "b", "4": "b"}
    after = {"1": "b", "2": "a", "3": "b"}
    assert [
        (move.true, move.predicted, move.count, move.share) for move in moves(before, after)
    ] == [("a", "b", 1, 0.5)]


def test_bottleneck_is_of_what_this_run_computed() -> None:
    stages = [
        StageTime(name=StageName.EMBED, seconds=100, resumed=True),
        StageTime(name=StageName.LABEL, seconds=3),
        StageTime(name=StageName.EVALUATE, seconds=2),
    ]
    slowest = bottleneck(stages)
    assert slowest is not None
    assert slowest.name == StageName.LABEL
    assert bottleneck([]) is None
