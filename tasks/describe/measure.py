"""How often captions are right, beside what the classifier says of the same images."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from tasks.describe.refs import CaptionsRef
from tasks.pool.shards import ID
from tasks.pool.truth import TrueLabels
from tasks.refs import ImagesRef, Split, TaskRef
from tasks.specs import Spec
from tasks.storage.manifest import iter_tables

_READ = (ID, "caption", "label", "classifier_label")


class Measured(Spec):
    """Shares of the images with a true label; of the test split, if there is one."""

    num_images: int = Field(description="With a true label.")
    on_test: bool = Field(description="Whether they are of the test split.")
    accuracy: float = Field(description="The likeliest class of a caption is right.")
    said_accuracy: float = Field(description="The caption, free to say anything, names it.")
    classifier_accuracy: float = Field(description="The classifier is right.")
    num_rescued: int = Field(description="Only the caption is right.")
    num_spoiled: int = Field(description="Only the classifier is right.")


@dataclass
class _Tally:
    count: int = 0
    right: int = 0
    said: int = 0
    classified: int = 0
    rescued: int = 0
    spoiled: int = 0

    def add(self, rows: pa.Table, truth: pa.Array, template: str) -> None:
        """Count some captions, in the order of their true labels."""
        right = pc.equal(rows["label"], truth).to_numpy()
        classified = pc.equal(rows["classifier_label"], truth).to_numpy()
        wanted = [template.replace("{}", name) for name in truth.to_pylist()]
        said = pc.equal(rows["caption"], pa.array(wanted, pa.string())).to_numpy()
        self.count += len(rows)
        self.right += int(right.sum())
        self.said += int(said.sum())
        self.classified += int(classified.sum())
        self.rescued += int(np.logical_and(right, ~classified).sum())
        self.spoiled += int(np.logical_and(~right, classified).sum())


def measure_captions(
    captions: CaptionsRef, images: ImagesRef, task: TaskRef, template: str
) -> Measured | None:
    """Return how often captions are right; None where no image has a true label."""
    if not task.labeled:
        return None
    split: Split = "test" if images.num_test else "pool"
    truth, tally = TrueLabels(task), _Tally()
    for table in iter_tables(captions.uri, list(_READ)):
        known = truth.about(table[ID], split)
        rows = table.take(pc.index_in(known[ID], table[ID].combine_chunks()))
        tally.add(rows, known["label"].combine_chunks(), template)
    if not tally.count:
        return None
    return Measured(
        num_images=tally.count,
        on_test=split == "test",
        accuracy=tally.right / tally.count,
        said_accuracy=tally.said / tally.count,
        classifier_accuracy=tally.classified / tally.count,
        num_rescued=tally.rescued,
        num_spoiled=tally.spoiled,
    )
