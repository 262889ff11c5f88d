"""The gate: each objection at its bound, the same for adapting, rounds and promotion."""

from dataclasses import replace

import pytest

from clipcore.health import Health
from tasks.gate import (
    Comparison,
    Evidence,
    Verdict,
    decide,
    decide_contest,
    decide_promotion,
)
from tasks.specs import GateSpec

GOOD = Evidence(
    agreement=0.9,
    kept_share=0.6,
    gap_separation=0.05,
    drift=0.1,
    lost_classes=0,
    accuracy=0.8,
    accuracy_before=0.7,
)
BOUNDS = GateSpec()


def test_a_healthy_model_is_not_objected_to() -> None:
    verdict = decide(GOOD, BOUNDS)
    assert verdict == Verdict()
    assert verdict.healthy
    assert verdict.text == "Healthy."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"agreement": 0.49}, "the two networks agree on only 49% of the images"),
        ({"kept_share": 0.05}, "only 5% of the labels were kept"),
        ({"drift": 0.45}, "the class shares moved by 45% from zero-shot"),
        ({"lost_classes": 2}, "2 classes are hardly ever predicted any more"),
        ({"gap_separation": -0.01}, "kept labels are no surer than rejected ones"),
        ({"accuracy": 0.65}, "its accuracy fell from 0.700 to 0.650"),
    ],
)
def test_each_objection_is_one_sentence(change: dict[str, float], sentence: str) -> None:
    verdict = decide(replace(GOOD, **change), BOUNDS)  # type: ignore[arg-type]
    assert verdict.objections == (sentence,)
    assert not verdict.healthy
    assert verdict.text == f"Not a candidate: {sentence}."


@pytest.mark.parametrize(
    "change",
    [
        {"agreement": 0.5},
        {"kept_share": 0.1},
        {"drift": 0.4},
        {"gap_separation": 0.0},
        {"accuracy": 0.7},
    ],
)
def test_a_model_at_the_bound_passes(change: dict[str, float]) -> None:
    assert decide(replace(GOOD, **change), BOUNDS).healthy


def test_objections_add_up() -> None:
    bad = replace(GOOD, agreement=0.1, kept_share=0.01, drift=0.9, lost_classes=3)
    verdict = decide(bad, BOUNDS)
    assert len(verdict.objections) == 4
    assert verdict.text.count(";") == 3


def test_what_was_not_measured_is_no_objection() -> None:
    assert decide(Evidence(), BOUNDS).healthy
    assert decide(Evidence(accuracy=0.1), BOUNDS).healthy
    assert decide(Evidence(accuracy_before=0.9), BOUNDS).healthy


def test_bounds_are_settings() -> None:
    assert not decide(GOOD, GateSpec(min_agreement=0.95)).healthy
    assert not decide(GOOD, GateSpec(min_kept_share=0.7)).healthy
    assert not decide(GOOD, GateSpec(max_drift=0.05)).healthy
    assert decide(replace(GOOD, lost_classes=2), GateSpec(max_lost_classes=2)).healthy


def test_health_is_evidence_without_labels() -> None:
    health = Health(
        agreement=0.9,
        kept_share=0.6,
        min_class_kept_share=0.2,
        drift=0.1,
        lost_classes=1,
        gap_separation=0.05,
    )
    evidence = Evidence.of_health(vars(health))
    assert evidence == replace(GOOD, lost_classes=1, accuracy=None, accuracy_before=None)


def test_promotion_asks_for_health() -> None:
    assert decide_promotion({}, healthy=True).healthy
    unhealthy = decide_promotion({"drift": "0.9"}, healthy=False)
    assert unhealthy.objections == ("its health check failed (drift 0.9)",)
    assert decide_promotion({}, healthy=None).objections == ("it has no health evidence",)


def seen(**changes: object) -> Comparison:
    measured = {"num_images": 100, "agreement": 0.9, "drift": 0.1, "lost_classes": 0}
    return Comparison.model_validate({**measured, **changes})


@pytest.mark.parametrize(
    ("interval", "prefer_newer", "sentence"),
    [
        ((0.001, 0.2), False, None),
        ((-0.01, 0.2), False, "not surely better"),
        ((-0.01, 0.2), True, None),
        ((-0.2, -0.001), True, "less often right"),
    ],
)
def test_with_labels_the_interval_decides(
    interval: tuple[float, float], *, prefer_newer: bool, sentence: str | None
) -> None:
    labelled = seen(interval=interval, num_labelled=100, agreement=0.0, lost_classes=9)
    verdict = decide_contest(labelled, BOUNDS, prefer_newer=prefer_newer)
    assert verdict.healthy is (sentence is None)
    assert sentence is None or sentence in verdict.text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"agreement": 0.49}, "agrees with the champion on only 49%"),
        ({"drift": 0.41}, "class shares are 41% away"),
        ({"lost_classes": 1}, "1 classes of the champion are hardly ever predicted"),
    ],
)
def test_without_labels_agreement_and_shares_decide(
    change: dict[str, float], sentence: str
) -> None:
    assert decide_contest(seen(), BOUNDS, prefer_newer=False).healthy
    assert sentence in decide_contest(seen(**change), BOUNDS, prefer_newer=True).text
