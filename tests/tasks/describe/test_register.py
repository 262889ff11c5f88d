"""When captions are no candidate: without a label, by how often they agree with the classifier."""

import pytest

from tasks.describe.measure import Measured
from tasks.describe.refs import CaptionsRef
from tasks.describe.register import judge


@pytest.mark.parametrize(
    ("differing", "healthy"), [(0, True), (49, True), (50, True), (51, False), (100, False)]
)
def test_captions_that_mostly_disagree_are_no_candidate(differing: int, *, healthy: bool) -> None:
    captions = CaptionsRef(uri="x", digest="x", rows=100, num_differing=differing)
    verdict, facts = judge(captions, None)
    assert verdict.healthy == healthy
    assert facts == {"agreement": pytest.approx(1 - differing / 100), "num_images": 100}
    assert healthy or f"{1 - differing / 100:.3f} of the images" in verdict.text


def test_what_was_measured_is_told() -> None:
    measured = Measured(
        num_images=10,
        on_test=True,
        accuracy=0.7,
        said_accuracy=0.6,
        classifier_accuracy=0.8,
        num_rescued=1,
        num_spoiled=2,
    )
    _, facts = judge(CaptionsRef(uri="x", digest="x", rows=10), measured)
    assert (facts["accuracy"], facts["classifier_accuracy"]) == (0.7, 0.8)
