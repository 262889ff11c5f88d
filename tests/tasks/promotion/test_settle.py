"""A decision: written to the version, and carried out or not."""

import pytest

from tasks.gate import Comparison
from tasks.promotion.contenders import find_contenders
from tasks.promotion.settle import Decision, settle
from tasks.promotion.specs import PromotionSpec
from tasks.specs import RuntimeSpec
from tasks.tracking.champion import promote
from tasks.tracking.promotions import Overtaken
from tasks.tracking.store import Tracking, connect
from tasks.tracking.versions import aliases_of, find_version
from tests.worlds.promoters import NAME, register_versions

pytestmark = pytest.mark.slow  # MLflow takes seconds to open a store


def seen(low: float, high: float) -> Comparison:
    accuracies = {"num_labelled": 90, "accuracy": 0.8, "champion_accuracy": 0.8}
    return Comparison(
        num_images=90, agreement=0.9, drift=0.1, lost_classes=0, interval=(low, high), **accuracies
    )


def decided(tracking: Tracking, comparison: Comparison | None, **more: object) -> Decision:
    runtime = RuntimeSpec(workspace=str(tracking.home))
    spec = PromotionSpec.model_validate({"name": NAME, "version": "2", "runtime": runtime, **more})
    return settle.fn(find_contenders.fn(spec), comparison, spec)


def test_a_worse_one_stays_and_a_better_one_goes(tracking: Tracking) -> None:
    register_versions(tracking, 3)
    left = decided(tracking, seen(-0.2, -0.1))
    assert (left.promoted, left.champion) == (False, "1")
    assert "less often right than the champion" in left.verdict
    chance = decided(tracking, seen(-0.01, 0.05))
    assert not chance.promoted
    assert "--prefer-newer" in chance.verdict
    assert aliases_of(tracking, NAME) == {"champion": "1"}
    evidence = find_version(tracking, NAME, "2").evidence
    assert evidence["gate.interval"] == "-0.0100 to +0.0500"
    assert evidence["gate.champion"] == "1"
    description = connect(tracking).get_model_version(NAME, "2").description
    assert "gate.agreement: 0.9" in description

    assert decided(tracking, seen(-0.01, 0.05), prefer_newer=True).promoted
    assert aliases_of(tracking, NAME) == {"champion": "2", "previous": "1"}
    again = decided(tracking, None)
    assert (again.promoted, again.champion) == (False, "2")
    assert decided(tracking, seen(-0.2, -0.1), version="3", force=True).champion == "3"


def test_a_champion_that_changed_since_the_comparison_is_not_replaced(tracking: Tracking) -> None:
    register_versions(tracking, 3)
    runtime = RuntimeSpec(workspace=str(tracking.home))
    spec = PromotionSpec(name=NAME, version="2", runtime=runtime)
    found = find_contenders.fn(spec)
    promote(tracking, NAME, "3")
    with pytest.raises(Overtaken, match="has made version 3 the champion"):
        settle.fn(found, seen(0.1, 0.2), spec)
