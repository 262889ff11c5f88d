"""Label-free health: what is measured, and which models are objected to."""

from dataclasses import replace

import pytest
import torch

from clipcore.health import Health, class_drift, judge

GOOD = Health(
    agreement=0.9,
    kept_share=0.6,
    min_class_kept_share=0.2,
    drift=0.1,
    lost_classes=0,
    gap_separation=0.05,
)


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
    found, classes = class_drift(torch.tensor(before), torch.tensor(after))
    assert found == pytest.approx(drift)
    assert classes == lost


def test_a_healthy_model_is_not_objected_to() -> None:
    assert judge(GOOD) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"agreement": 0.49}, "the two networks agree on only 49% of the images"),
        ({"kept_share": 0.05}, "only 5% of the labels were kept"),
        ({"drift": 0.45}, "the class shares moved by 45% from zero-shot"),
        ({"lost_classes": 2}, "2 classes are hardly ever predicted any more"),
        ({"gap_separation": -0.01}, "kept labels are no surer than rejected ones"),
    ],
)
def test_each_objection_is_one_sentence(change: dict[str, float], sentence: str) -> None:
    assert judge(replace(GOOD, **change)) == [sentence]  # type: ignore[arg-type]


def test_objections_add_up() -> None:
    bad = replace(GOOD, agreement=0.1, kept_share=0.01, drift=0.9, lost_classes=3)
    assert len(judge(bad)) == 4
