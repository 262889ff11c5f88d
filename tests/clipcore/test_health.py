"""Label-free measures: how far the class shares moved, and which classes were lost."""

import pytest
import torch

from clipcore.health import class_drift


@pytest.mark.parametrize(
    ("before", "after", "drift", "lost"),
    [
        ([10, 10, 10], [10, 10, 10], 0.0, 0),
        ([10, 10], [100, 100], 0.0, 0),  # shares, not counts
        ([10, 0], [0, 10], 1.0, 1),
        ([50, 50], [96, 4], 0.46, 1),
        ([50, 50], [94, 6], 0.44, 0),
        ([30, 30, 40], [40, 30, 30], 0.1, 0),
        ([0, 0], [0, 0], 0.0, 0),
    ],
)
def test_drift_is_the_total_variation_of_class_shares(
    before: list[int], after: list[int], drift: float, lost: int
) -> None:
    found, classes = class_drift(torch.tensor(before), torch.tensor(after), lost_share=0.1)
    assert found == pytest.approx(drift)
    assert classes == lost


def test_a_class_is_lost_below_the_share_that_is_asked_for() -> None:
    before, after = torch.tensor([50, 50]), torch.tensor([80, 20])
    assert class_drift(before, after, lost_share=0.3)[1] == 0
    assert class_drift(before, after, lost_share=0.5)[1] == 1
