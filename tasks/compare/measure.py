"""What a cell is worth, by labels that no method saw; here alone are they read."""

import math
from typing import Any

import pyarrow.compute as pc
import torch

from clipcore import metrics
from tasks.compare.cells import FAILED, Cell, facts_of
from tasks.pool.readers import value_of
from tasks.pool.truth import TrueLabels
from tasks.refs import TaskRef
from tasks.storage.columns import class_numbers
from tasks.storage.files import exists, read_json
from tasks.storage.tables import read_table

Row = dict[str, Any]


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
