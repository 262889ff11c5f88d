"""Two models on the same images: how often each is right, or without labels where they agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipcore.metrics import paired_interval
from tasks.gate import Comparison
from tasks.health import drift_of
from tasks.label.people import answered_ids
from tasks.pool.readers import value_of
from tasks.pool.truth import TrueLabels
from tasks.progress import say
from tasks.refs import AnswersRef, ImagesRef, ModelRef, PredictionsRef, Split, TaskRef
from tasks.specs import GateSpec, InputError
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import step
from tasks.storage.uris import join

_COLUMNS = ["image_id", "label"]


@dataclass
class _Counts:
    """Images that both saw, by what they said: [this one is right, the champion is right]."""

    images: int = 0
    same: int = 0
    right: np.ndarray = field(default_factory=lambda: np.zeros((2, 2), np.int64))

    def add(self, own: Any, other: Any, truth: Any) -> None:
        """Count a range of images; an unknown label is null."""
        self.images += len(own)
        self.same += int(pc.sum(pc.equal(own, other)).as_py() or 0)
        known = truth.is_valid()
        ours, theirs = (
            pc.equal(said.filter(known), truth.filter(known)).to_numpy(zero_copy_only=False)
            for said in (own, other)
        )
        np.add.at(self.right, (ours.astype(int), theirs.astype(int)), 1)


@step("compare with champion")
def compare(  # two of each
    models: Sequence[ModelRef],
    predictions: Sequence[PredictionsRef],
    images: ImagesRef,
    task: TaskRef | None,
    answers: AnswersRef | None,
    bounds: GateSpec,
) -> Comparison:
    """Compare a model with the champion on the images that both could read.

    Labels count where nobody has learned from them: those of the test split if there is one, and
    not those that people gave as answers.

    Args:
        models: The model and the champion.
        predictions: Of both, of the same images.
        images: The images.
        task: With true labels; None where there are none.
        answers: What was learned from.
        bounds: What counts as a lost class.

    Raises:
        InputError: no image could be read by both.
    """
    counts = _count(predictions, images, task, answers)
    if not counts.images:
        raise InputError(f"{images.uri}: expected images that both models can read, found none")
    labelled = int(counts.right.sum())
    only_new, only_champion = int(counts.right[1, 0]), int(counts.right[0, 1])
    classes = sorted({name for model in models for name in _classes_of(model)})
    drift, lost = drift_of(predictions[1], predictions[0], classes, bounds)
    found = Comparison(
        num_images=counts.images,
        agreement=counts.same / counts.images,
        drift=drift,
        lost_classes=lost,
        num_labelled=labelled,
        accuracy=int(counts.right[1].sum()) / labelled if labelled else None,
        champion_accuracy=int(counts.right[:, 1].sum()) / labelled if labelled else None,
        interval=paired_interval(only_new, only_champion, labelled) if labelled else None,
    )
    say(f"Beside the champion: {found.text}")
    return found


def _count(
    predictions: Sequence[PredictionsRef],
    images: ImagesRef,
    task: TaskRef | None,
    answers: AnswersRef | None,
) -> _Counts:
    own, champion = predictions
    theirs = pa.concat_tables(iter_tables(champion.uri, _COLUMNS)).combine_chunks()
    truth = TrueLabels(task) if task is not None and task.labeled else None
    split: Split | None = "test" if images.num_test else None
    learned = pa.array(sorted(answered_ids(answers)), pa.string())
    counts = _Counts()
    for table in iter_tables(own.uri, _COLUMNS):
        seen = table.filter(pc.is_in(table["image_id"], theirs["image_id"].combine_chunks()))
        ids = seen["image_id"]
        known = pa.nulls(len(ids), pa.string())
        if truth is not None and len(ids):
            about = truth.about(ids, split)
            about = about.filter(pc.invert(pc.is_in(about["image_id"], learned)))
            known = value_of(about, ids, "label")
        counts.add(
            *(_flat(column) for column in (seen["label"], value_of(theirs, ids, "label"), known))
        )
    return counts


def _flat(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _classes_of(model: ModelRef) -> list[str]:
    classes: list[str] = read_json(join(model.uri, DESCRIPTION))["classes"]
    return classes
