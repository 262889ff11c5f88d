"""What became of the files of a run: how many are images, which could not be used, and why."""

from collections import Counter

import pyarrow.compute as pc

from tasks.plan.facts import Plan
from tasks.refs import EmbeddingsRef, Files, ImagesRef
from tasks.storage.layout import QUARANTINE
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import finished
from tasks.storage.uris import join


def count_files(plan: Plan, images: ImagesRef, features: EmbeddingsRef) -> Files:
    """Return how many images a run had, and what was left out of it for which reason.

    Args:
        plan: Knows which files were skipped.
        images: The images; those whose header is bad are in their quarantine.
        features: Of the images; those that could not be decoded are in their quarantine.
    """
    reasons = Counter[str]()
    for stage in (images.uri, features.run):
        for table in iter_tables(join(stage, QUARANTINE), ["reason"]):
            for row in pc.value_counts(table["reason"]).to_pylist():
                reasons[row["values"]] += row["counts"]
    facts = finished(images.uri).facts
    return Files(
        num_images=int(str(facts["num_images"])) + int(str(facts["num_quarantined"])),
        quarantined=dict(reasons.most_common()),
        skipped=plan.images.skipped,
    )
