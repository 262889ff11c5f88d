"""What is read off an accuracy matrix, on one that was made by hand."""

import math

import pytest

from clipcore.harmony.matrix import (
    accuracy_matrix,
    average_accuracy,
    forgetting,
    learned_accuracy,
)

NAN = math.nan
NAMES = ("photo", "sketch", "sound")
STAGES = [
    {"photo": 0.9},
    {"photo": 0.7, "sketch": 0.6},
    {"photo": 0.8, "sketch": 0.65, "sound": 0.5},
]
MATRIX = accuracy_matrix(STAGES, NAMES)


def test_it_is_lower_triangular_and_not_a_number_above() -> None:
    empty = [(row, column) for row in range(3) for column in range(3) if column > row]
    assert [at for at in empty if not math.isnan(MATRIX[at[0]][at[1]])] == []
    assert [MATRIX[row][: row + 1] for row in range(3)] == [[0.9], [0.7, 0.6], [0.8, 0.65, 0.5]]


def test_average_forgetting_and_what_was_learned() -> None:
    """The sketches got better after their stage: that does not make up for the photos."""
    assert average_accuracy(MATRIX) == pytest.approx((0.8 + 0.65 + 0.5) / 3)
    assert forgetting(MATRIX) == pytest.approx(((0.9 - 0.8) + 0.0) / 2)
    assert learned_accuracy(MATRIX) == pytest.approx((0.9 + 0.6 + 0.5) / 3)


def test_what_was_not_measured_does_not_count() -> None:
    matrix = accuracy_matrix(
        [{name: row[name] for name in row if name != "photo"} for row in STAGES], NAMES
    )
    assert average_accuracy(matrix) == pytest.approx((0.65 + 0.5) / 2)
    assert forgetting(matrix) == pytest.approx(0.0)
    assert learned_accuracy(matrix) == pytest.approx((0.6 + 0.5) / 2)
    assert forgetting([[0.9, NAN], [NAN, 0.5]]) is None


def test_of_one_stage_nothing_can_be_said_about_forgetting() -> None:
    together = accuracy_matrix([STAGES[-1]], NAMES)
    assert forgetting(together) is None
    assert learned_accuracy(together) == average_accuracy(together) == pytest.approx(0.65)
    assert [read([]) for read in (average_accuracy, forgetting, learned_accuracy)] == [None] * 3
    assert average_accuracy([[NAN]]) is None
