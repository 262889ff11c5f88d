"""Compare predictions with labels that nothing was trained on, before and after adaptation."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore import metrics
from tasks.label.people import answered_ids
from tasks.pool.readers import value_of
from tasks.pool.shards import shards
from tasks.pool.truth import TrueLabels
from tasks.progress import say
from tasks.refs import (
    EvaluationRef,
    ImagesRef,
    LabelsRef,
    PredictionsRef,
    Reason,
    Split,
    Stages,
    TaskRef,
)
from tasks.specs import CoftSpec
from tasks.storage.columns import class_numbers, tensor_of
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_json, write_json
from tasks.storage.layout import METRICS, Folder, in_workspace
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import Outcome, once, step
from tasks.storage.uris import join
from tasks.weights import read_dual_head


@dataclass
class Tally:
    """What is added up over the parts of a pool: never more than a few numbers a class or image."""

    confusion: Tensor
    confidence: list[np.ndarray]
    correct: list[np.ndarray]

    @classmethod
    def empty(cls, num_classes: int) -> "Tally":
        """Return a tally of nothing."""
        return cls(torch.zeros(num_classes, num_classes, dtype=torch.long), [], [])

    def add(self, labels: Tensor, predictions: Tensor, confidence: Tensor) -> None:
        """Count samples with known labels; a label below 0 is unknown and left out."""
        labelled = labels >= 0
        labels, predictions = labels[labelled], predictions[labelled]
        confidence = confidence[labelled]
        num_classes = len(self.confusion)
        self.confusion += metrics.confusion_matrix(labels, predictions, num_classes=num_classes)
        self.confidence.append(confidence.float().numpy())
        self.correct.append((labels == predictions).numpy())

    def summary(self, classes: Sequence[str]) -> dict[str, Any] | None:
        """Return the metrics as JSON, NaN as null; None when nothing had a label."""
        if int(self.confusion.sum()) == 0:
            return None
        recall = metrics.recall_per_class(self.confusion)
        precision = metrics.precision_per_class(self.confusion)
        truth, predicted = self.confusion.sum(dim=1), self.confusion.sum(dim=0)
        confidence = torch.from_numpy(np.concatenate(self.confidence))
        correct = torch.from_numpy(np.concatenate(self.correct))
        return {
            "accuracy": metrics.accuracy(self.confusion),
            "mean_recall": _number(recall[truth > 0].mean()),
            "calibration_error": metrics.calibration_error(confidence, correct),
            "num_images": int(self.confusion.sum()),
            "per_class": {
                name: {
                    "recall": _number(recall[k]),
                    "precision": _number(precision[k]),
                    "num_images": int(truth[k]),
                    "num_predicted": int(predicted[k]),
                }
                for k, name in enumerate(classes)
            },
            "confusion": self.confusion.tolist(),
        }


@step("evaluate")
def evaluate(stages: Stages, adapted: PredictionsRef, spec: CoftSpec) -> EvaluationRef:
    """Measure zero-shot, Phase I and the final model on the test split, or else on the pool.

    Measured on the pool itself, the accuracy is transductive: its images were trained on, their
    labels were not; images that a person labelled are left out. Of the confident and the clean
    sets it says how many kept labels are right.
    """
    images, task, zero_shot = stages.images, stages.task, stages.zero_shot
    labellings = [*stages.confident, *stages.neighbours, *stages.clean]
    made_from = (*stages.peers, *stages.features, *labellings, stages.answers)
    inputs = [stage.digest for stage in made_from if stage is not None]
    digest = fingerprint(Folder.EVALUATIONS, task.digest, zero_shot.digest, adapted.digest, inputs)
    folder = in_workspace(spec.runtime.workspace, Folder.EVALUATIONS, digest)
    split: Split = "test" if images.num_test else "pool"

    def compute() -> Outcome:
        phase1 = _phase1_predictions(images, stages) if stages.peers else None
        answered = answered_ids(stages.answers)

        def measure(predicted: Predicted) -> dict[str, Any] | None:
            return tally(task, predicted, split, without=answered)

        measured = {
            "transductive": split == "pool",
            "zero_shot": measure(labels_of(zero_shot.uri, "confidence")),
            "phase1": phase1 and measure(phase1),
            "adapted": measure(labels_of(adapted.uri, "confidence")),
            "kept_label_precision": {
                labels.source: _kept_precision(task, labels) for labels in labellings
            },
        }
        write_json(join(folder, METRICS), measured)
        return Outcome(parts=())

    kind = Folder.EVALUATIONS
    manifest, resumed = once(folder, kind=kind, digest=digest, label="Evaluate", compute=compute)
    measured = read_metrics(folder)
    before, after = _accuracy(measured["zero_shot"]), _accuracy(measured["adapted"])
    if before is not None and after is not None:
        say(f"Accuracy on the {split} split: zero-shot {before:.3f}, adapted {after:.3f}")
    return EvaluationRef(
        uri=folder,
        digest=digest,
        seconds=manifest.seconds,
        resumed=resumed,
        zero_shot_accuracy=before,
        accuracy=after,
        transductive=split == "pool",
    )


def read_metrics(folder: str) -> dict[str, Any]:
    """Return what `evaluate` measured."""
    measured: dict[str, Any] = read_json(join(folder, METRICS))
    return measured


Predicted = Iterator[tuple[Any, Any, Tensor]]
"""For each range of images: ids, predicted class names or numbers, confidence."""


def labels_of(folder: str, confidence: str) -> Predicted:
    """Yield what a finished stage says of each image; `confidence` names the column."""
    for table in iter_tables(folder, ["image_id", "label", confidence]):
        yield table["image_id"], table["label"], tensor_of(table, confidence)


def _phase1_predictions(images: ImagesRef, stages: Stages) -> Predicted:
    """Yield the mean softmax of the peers' positive prompts, part by part."""
    heads = [read_dual_head(peer.uri).positive for peer in stages.peers]
    for shard in shards(images, *stages.features):
        ids, seen = shard.features_of_all()
        probabilities = torch.stack(
            [head.probabilities(vectors) for head, vectors in zip(heads, seen, strict=True)]
        )
        confidence, labels = probabilities.mean(dim=0).max(dim=1)
        yield ids, labels, confidence


def tally(
    task: TaskRef, predicted: Predicted, split: Split, *, without: Collection[str] = ()
) -> dict[str, Any] | None:
    """Return the metrics of predictions for one split, added up over all parts; None unlabelled.

    Images whose id is in `without` are left out.
    """
    if not task.labeled:
        return None
    excluded = pa.array(sorted(without), pa.string())
    total = Tally.empty(len(task.classes))
    truth = TrueLabels(task)
    for ids, labels, confidence in predicted:
        known = truth.about(ids, split)
        known = known.filter(pc.invert(pc.is_in(known["image_id"], excluded)))
        numbers = class_numbers(task.classes, value_of(known, ids, "label"))
        total.add(numbers, _numbers(labels, task), confidence)
    return total.summary(task.classes)


def _kept_precision(task: TaskRef, labels: LabelsRef) -> dict[str, Any] | None:
    """Return how many of the kept, and of the rejected, pseudo-labels of a labelling are right."""
    if not task.labeled:
        return None
    truth = TrueLabels(task)
    counts = {"kept": 0, "kept_right": 0, "rejected": 0, "rejected_right": 0}
    for part in iter_tables(labels.uri, ["image_id", "label", "kept", "reason"]):
        pseudo = part.filter(pc.not_equal(part["reason"], Reason.ANSWERED))
        ids = pseudo["image_id"]
        known = value_of(truth.about(ids), ids, "label")
        right = pc.equal(known, pseudo["label"]).fill_null(fill_value=False)
        kept, right = pseudo["kept"].to_numpy(), right.to_numpy()
        counts["kept"] += int(kept.sum())
        counts["kept_right"] += int((kept & right).sum())
        counts["rejected"] += int((~kept).sum())
        counts["rejected_right"] += int((~kept & right).sum())
    return {
        **counts,
        "kept_precision": _ratio(counts["kept_right"], counts["kept"]),
        "rejected_precision": _ratio(counts["rejected_right"], counts["rejected"]),
    }


def _numbers(labels: Any, task: TaskRef) -> Tensor:
    return labels if isinstance(labels, Tensor) else class_numbers(task.classes, labels)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _accuracy(metrics_of: dict[str, Any] | None) -> float | None:
    return None if metrics_of is None else float(metrics_of["accuracy"])


def _number(value: Tensor) -> float | None:
    return None if math.isnan(float(value)) else float(value)
