"""What became of the files of a run: how many are images, which could not be used, and why."""

from collections import Counter

from tasks.plan.facts import Plan
from tasks.refs import EmbeddingsRef, Files, ImagesRef
from tasks.storage.stage import finished


def count_files(plan: Plan, images: ImagesRef, features: EmbeddingsRef) -> Files:
    """Return how many images a run had, and what was left out of it for which reason.

    Args:
        plan: Knows which files were skipped.
        images: The images; those whose header is bad are in their quarantine.
        features: Of the images; those that could not be decoded are in their quarantine.
    """
    facts = finished(images.uri).facts
    quarantined = Counter[str]()
    for reasons in (facts["reasons"], finished(features.run).facts["reasons"]):
        assert isinstance(reasons, dict)  # noqa: S101  # as their steps write them
        quarantined.update({reason: int(str(count)) for reason, count in reasons.items()})
    return Files(
        num_images=int(str(facts["num_images"])) + int(str(facts["num_quarantined"])),
        quarantined=dict(quarantined.most_common()),
        skipped=plan.images.skipped,
    )
