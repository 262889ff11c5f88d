"""What a cell is worth, by labels that no method saw; here alone are they read."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from clipcore import metrics
from tasks.compare.cells import FAILED, Cell, facts_of
from tasks.compare.specs import Whole
from tasks.pool.readers import value_of
from tasks.pool.truth import TrueLabels
from tasks.refs import RunSummary, StageName, TaskRef
from tasks.storage.columns import class_numbers
from tasks.storage.files import exists, read_json
from tasks.storage.manifest import iter_tables
from tasks.storage.tables import read_table

Row = dict[str, Any]
SHARED = (StageName.POOL, StageName.EMBED)  # with all other methods, whose time is without them


def measure_cell(cell: Cell) -> Row:
    """Return what a cell took, and what its predictions of the test images are worth.

    `taught_precision` is the share of the images that it labelled itself and learned from whose
    label is right; `taught_recall` is the share of all images of the pool that they are, and right.
    """
    if not exists(cell.uri):
        return {**facts_of(cell), **read_json(cell.place + FAILED)}
    table = read_table(f"{cell.place}.parquet")
    truth = TrueLabels(cell.sources.task)
    tested = table.filter(pc.equal(table["split"], "test"))
    taught = table.filter(pc.equal(table["split"], "pool"))
    return {
        **facts_of(cell),
        **read_json(cell.uri),
        **_of_test(tested, truth, cell.sources.task),
        **_of_taught(taught, truth, cell.sources.task),
    }


def measure_whole(one: Whole, found: RunSummary, task: TaskRef) -> Row:
    """Return what a whole flow took, and what its predictions of the test images are worth.

    Each of its networks has learned from labels of its own: precision and recall are the means of
    theirs. The time is that of its stages whenever they ran, without the features that it shares
    with other methods; the memory is that of its largest training.

    Args:
        one: Which run.
        found: What came of it.
        task: The labels of all images of the comparison.
    """
    table = _numbered(found.predictions, ["image_id", "split", "label", "confidence"], task)
    truth = TrueLabels(task)
    tested, pool = (table.filter(pc.equal(table["split"], name)) for name in ("test", "pool"))
    taught = [_of_taught(_beside(pool, labels, task), truth, task) for labels in found.taught]
    own = [took for name, took in found.seconds_by_stage.items() if name not in SHARED]
    return {
        "method": one.method,
        "seed": one.seed,
        "balance": one.balance,
        "seconds": sum(own),
        "peak_bytes": found.peak_bytes or None,
        "num_parameters": found.num_parameters or None,
        **_of_test(tested, truth, task),
        "num_pool": len(pool),
        "num_taught": _mean([row["num_taught"] for row in taught]),
        "taught_precision": _mean([row["taught_precision"] for row in taught]),
        "taught_recall": _mean([row["taught_recall"] for row in taught]),
    }


def _numbered(folder: str, columns: Sequence[str], task: TaskRef) -> pa.Table:
    """Return columns of a finished stage, its labels as class numbers."""
    table = pa.concat_tables(iter_tables(folder, list(columns)))
    numbers = pa.array(class_numbers(task.classes, table["label"]).numpy())
    return table.set_column(table.column_names.index("label"), "label", numbers)


def _beside(pool: pa.Table, labels: str, task: TaskRef) -> pa.Table:
    """Return the images of a pool with the labels that were learned from, -1 for none."""
    said = _numbered(labels, ["image_id", "label", "kept"], task)
    said = said.filter(said["kept"])
    at = pc.index_in(pool["image_id"], said["image_id"].combine_chunks())
    taught = pc.fill_null(said["label"].take(at.combine_chunks()), -1).to_numpy()
    return pool.append_column("taught", pa.array(taught.astype(np.int64)))


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None


def _of_test(table: Any, truth: TrueLabels, task: TaskRef) -> Row:
    labels = _true_labels(table, truth, task)
    known = labels >= 0
    said = torch.from_numpy(table["label"].to_numpy().copy())[known]
    confidence = torch.from_numpy(table["confidence"].to_numpy().copy())[known]
    labels = labels[known]
    confusion = metrics.confusion_matrix(labels, said, num_classes=len(task.classes))
    recall = metrics.recall_per_class(confusion)
    right = said == labels
    return {
        "num_test": len(labels),
        "accuracy": known_number(metrics.accuracy(confusion)),
        "mean_recall": known_number(float(recall.nanmean())),
        "worst_recall": known_number(float(recall[~recall.isnan()].min())) if len(labels) else None,
        "calibration_error": known_number(metrics.calibration_error(confidence, right)),
        "auroc": known_number(metrics.auroc(confidence, right)),
    }


def _of_taught(table: Any, truth: TrueLabels, task: TaskRef) -> Row:
    labels = _true_labels(table, truth, task).numpy()
    taught = table["taught"].to_numpy()
    used = (taught >= 0) & (labels >= 0)
    right = int((used & (taught == labels)).sum())
    known = int((labels >= 0).sum())
    return {
        "num_pool": len(table),
        "num_taught": int((taught >= 0).sum()),
        "taught_precision": right / int(used.sum()) if used.any() else None,
        "taught_recall": right / known if used.any() and known else None,
    }


def _true_labels(table: Any, truth: TrueLabels, task: TaskRef) -> torch.Tensor:
    ids = table["image_id"].combine_chunks()  # of one split, in rising order
    return class_numbers(task.classes, value_of(truth.about(ids), ids, "label"))


def known_number(value: float) -> float | None:
    """Return a number as JSON has it: NaN is null."""
    return None if math.isnan(value) else value
