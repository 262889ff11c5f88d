"""What evaluation measures, against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from clipcore import metrics

CLASSES = 4
PAIRS = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=50
)


@given(PAIRS)
def test_confusion_and_what_follows_from_it_are_scikit_learns(
    pairs: list[tuple[int, int]],
) -> None:
    labels, predictions = (list(column) for column in zip(*pairs, strict=True))
    confusion = metrics.confusion_matrix(
        torch.tensor(labels), torch.tensor(predictions), num_classes=CLASSES
    )
    classes = list(range(CLASSES))
    arguments = {"labels": classes, "average": None, "zero_division": np.nan}
    np.testing.assert_array_equal(
        confusion, reference.confusion_matrix(labels, predictions, labels=classes)
    )
    assert metrics.accuracy(confusion) == pytest.approx(
        reference.accuracy_score(labels, predictions)
    )
    np.testing.assert_allclose(
        metrics.recall_per_class(confusion),
        reference.recall_score(labels, predictions, **arguments),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        metrics.precision_per_class(confusion),
        reference.precision_score(labels, predictions, **arguments),
        rtol=1e-6,
    )


def test_nothing_measured_is_not_a_number() -> None:
    none = torch.zeros(0, dtype=torch.long)
    confusion = metrics.confusion_matrix(none, none, num_classes=3)
    assert confusion.shape == (3, 3)
    assert math.isnan(metrics.accuracy(confusion))
    assert metrics.recall_per_class(confusion).isnan().all()
    assert metrics.precision_per_class(confusion).isnan().all()
    assert math.isnan(metrics.calibration_error(torch.zeros(0), none.bool()))


def calibration_with_loops(confidence: list[float], correct: list[bool], num_bins: int) -> float:
    total = 0.0
    for b in range(num_bins):
        low, high = b / num_bins, (b + 1) / num_bins
        inside = [i for i, c in enumerate(confidence) if low <= c < high or (c == 1 and high == 1)]
        if inside:
            right = sum(correct[i] for i in inside) / len(inside)
            sure = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(right - sure)
    return total


@pytest.mark.parametrize("num_bins", [1, 4, 16])
def test_calibration_error_is_its_equation(num_bins: int) -> None:
    rng = np.random.default_rng(0)
    confidence = [*(rng.integers(0, 65, 200) / 64).tolist(), 0.0, 1.0]
    correct = (rng.random(202) < 0.7).tolist()
    error = metrics.calibration_error(
        torch.tensor(confidence), torch.tensor(correct), num_bins=num_bins
    )
    assert error == pytest.approx(calibration_with_loops(confidence, correct, num_bins), abs=1e-9)


def test_calibration_error_at_its_bounds() -> None:
    sure = torch.ones(10)
    assert metrics.calibration_error(sure, torch.ones(10)) == 0
    assert metrics.calibration_error(sure, torch.zeros(10)) == 1
    half = torch.full((10,), 0.5)
    assert metrics.calibration_error(half, torch.arange(10) % 2) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    confidence = torch.tensor([float(value) for value, _ in rows])
    correct = torch.tensor([right for _, right in rows])
    if bool(correct.all()) or not bool(correct.any()):
        assert math.isnan(metrics.auroc(confidence, correct))
        return
    pairs = [(a, b) for a, right in rows if right for b, other in rows if not other]
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert metrics.auroc(confidence, correct) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second", "total"), [(10, 2, 40), (0, 0, 5), (3, 3, 1000)])
def test_paired_interval_is_that_of_a_matched_table_with_halves_added(
    first: int, second: int, total: int
) -> None:
    """Wald's interval of the mean of -1, 0 and 1, once each cell of the table has a half more."""
    cells = {1: first + 0.5, -1: second + 0.5, 0: total - first - second + 1.0}
    weight = sum(cells.values())
    mean = sum(value * count for value, count in cells.items()) / weight
    variance = sum((value - mean) ** 2 * count for value, count in cells.items()) / weight
    half = 1.96 * (variance / weight) ** 0.5
    expected = (mean - half, mean + half)
    assert metrics.paired_interval(first, second, total) == pytest.approx(expected)
