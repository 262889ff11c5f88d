"""The labels that captions are learned from: what a classifier says, where it is surest."""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipcore import cleaning
from tasks.compute.calls import run_tasks
from tasks.label.table import (
    Target,
    TopOfPart,
    label_parts,
    labelling_facts,
    labels_once,
    labels_table,
    merge_top,
    top_of_part,
    write_part,
)
from tasks.pool.shards import ID, Shard, shards
from tasks.refs import ImagesRef, LabelsRef, PredictionsRef, Reason, TaskRef
from tasks.specs import CoftSpec
from tasks.storage.columns import class_numbers, tensor_of
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.ranges import keys_in
from tasks.storage.stage import Outcome, step

SOURCE = "model"
_READ = (ID, "label", "confidence")


@step("labels of the model")
def surest_of_model(
    predictions: PredictionsRef, images: ImagesRef, task: TaskRef, spec: CoftSpec
) -> LabelsRef:
    """Keep the K images of each class of which a classifier is surest, of the pool split only.

    K is that of Phase I. A class that it says of no image has none.
    """
    runtime, num_classes = spec.runtime, len(task.classes)
    per_class = cleaning.resolve_per_class(
        spec.label.top.per_class, num_classes=num_classes, minimum_total=spec.label.top.min_total
    )
    digest = fingerprint(Folder.LABELS, SOURCE, predictions.digest, task.classes, per_class)
    folder = in_workspace(runtime.workspace, Folder.LABELS, digest)

    def compute() -> Outcome:
        parts = shards(images, predictions)
        scan = [(task.classes, per_class, part) for part in parts]
        tops = (top for _, top in run_tasks(_top_of_part, scan, runtime=runtime))
        chosen = sorted(merge_top(tops, num_classes=num_classes, per_class=per_class))
        items = [
            (
                Target(folder, digest, part.span),
                task.classes,
                part,
                set(keys_in(chosen, part.span)),
            )
            for part in parts
        ]
        return label_parts(
            _write_part,
            items,
            label="Choose the surest",
            total=predictions.rows,
            runtime=runtime,
            about=labelling_facts(images, task),
        )

    return labels_once(folder, digest, SOURCE, compute)


def _top_of_part(classes: tuple[str, ...], per_class: int, part: Shard) -> TopOfPart:
    said = part.read(0, _READ, "pool")
    return top_of_part(
        said[ID],
        class_numbers(classes, said["label"]),
        tensor_of(said, "confidence"),
        num_classes=len(classes),
        per_class=per_class,
    )


def _write_part(
    target: Target, classes: tuple[str, ...], part: Shard, chosen: Collection[str]
) -> int:
    said = part.read(0, _READ, "pool")
    kept = pc.is_in(said[ID], pa.array(sorted(chosen), pa.string())).to_numpy()
    rows = labels_table(
        said[ID],
        SOURCE,
        class_numbers(classes, said["label"]),
        tensor_of(said, "confidence"),
        classes=classes,
        kept=kept,
        reasons=np.where(kept, Reason.KEPT, Reason.NOT_CONFIDENT).tolist(),
    )
    return write_part(target, rows)
