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
from clipcore.losses import scaled_similarity
from tasks.progress import say
from tasks.refs import (
    AnswersRef,
    EmbeddingsRef,
    EvaluationRef,
    LabelsRef,
    PeerRef,
    PoolRef,
    PredictionsRef,
    Reason,
    Stages,
)
from tasks.specs import CoftSpec
from tasks.storage.columns import read_features
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_json, write_json
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import Outcome, once, part_uris, step
from tasks.storage.tables import read_table
from tasks.storage.uris import join
from tasks.weights import read_class_embeddings

KIND = "evaluations"
METRICS = "metrics.json"


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
        known = labels >= 0
        labels, predictions, confidence = labels[known], predictions[known], confidence[known]
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
    pool, zero_shot = stages.pool, stages.zero_shot
    judged = [labels for labels in (stages.confident, *stages.clean) if labels is not None]
    made_from = (*stages.peers, *stages.features, *judged, stages.answers)
    inputs = [stage.digest for stage in made_from if stage is not None]
    digest = fingerprint(KIND, pool.digest, zero_shot.digest, adapted.digest, inputs)
    folder = join(spec.runtime.workspace, KIND, digest)
    split = "test" if pool.num_test else "pool"

    def compute() -> Outcome:
        phase1 = _phase1_predictions(stages.peers, stages.features) if stages.peers else None
        answered = answered_ids(stages.answers)

        def measure(predicted: Predicted) -> dict[str, Any] | None:
            return tally(pool, predicted, split, without=answered)

        found = {
            "transductive": split == "pool",
            "zero_shot": measure(labels_of(zero_shot.uri, "confidence")),
            "phase1": phase1 and measure(phase1),
            "adapted": measure(labels_of(adapted.uri, "score")),
            "kept_label_precision": {
                labels.source: _kept_precision(pool, labels) for labels in judged
            },
        }
        write_json(join(folder, METRICS), found)
        return Outcome(parts=())

    manifest, resumed = once(folder, kind=KIND, digest=digest, label="Evaluate", compute=compute)
    found = read_metrics(folder)
    before, after = _accuracy(found["zero_shot"]), _accuracy(found["adapted"])
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
    found: dict[str, Any] = read_json(join(folder, METRICS))
    return found


Predicted = Iterator[tuple[Any, Any, Tensor]]
"""For each part of the pool: ids, predicted class names, confidence."""


def labels_of(folder: str, confidence: str) -> Predicted:
    """Yield what a finished stage says of each image; `confidence` names the column."""
    for table in iter_tables(folder, ["image_id", "label", confidence]):
        yield (
            table["image_id"],
            table["label"],
            torch.from_numpy(table[confidence].to_numpy().copy()),
        )


def answered_ids(answers: AnswersRef | None) -> list[str]:
    """Return the ids of the images that people were heard about, and that are not measured."""
    if answers is None:
        return []
    ids: list[str] = read_table(answers.uri, ["image_id"])["image_id"].to_pylist()
    return ids


def _phase1_predictions(peers: Sequence[PeerRef], features: Sequence[EmbeddingsRef]) -> Predicted:
    """Return the mean softmax of the peers' positive prompts, part by part."""
    prompts = [read_class_embeddings(peer.uri) for peer in peers]
    for uris in zip(*(part_uris(stage.uri) for stage in features), strict=True):
        ids: Any = None
        softmaxes = []
        for uri, (positive, _, scale) in zip(uris, prompts, strict=True):
            ids, vectors = read_features(uri)
            softmaxes.append(scaled_similarity(vectors, positive, scale).softmax(dim=1))
        confidence, labels = torch.stack(softmaxes).mean(dim=0).max(dim=1)
        yield ids, labels, confidence


def tally(
    pool: PoolRef, predicted: Predicted, split: str, *, without: Collection[str] = ()
) -> dict[str, Any] | None:
    """Return the metrics of predictions for one split, added up over all parts; None unlabelled.

    Images whose id is in `without` are left out.
    """
    if not pool.labeled:
        return None
    classes = pa.array(pool.classes, pa.string())
    left_out = pa.array(sorted(without), pa.string())
    total = Tally.empty(len(pool.classes))
    columns = ["image_id", "split", "label", "duplicate_of"]
    images = iter_tables(pool.uri, columns)
    for (ids, names, confidence), table in zip(predicted, images, strict=True):
        wanted = table.filter(
            pc.and_(pc.equal(table["split"], split), pc.is_null(table["duplicate_of"]))
        )
        wanted = wanted.filter(pc.invert(pc.is_in(wanted["image_id"], left_out)))
        rows = pc.index_in(ids, wanted["image_id"].combine_chunks())
        truth = pc.index_in(wanted["label"], classes).take(rows).fill_null(-1)
        labels = torch.from_numpy(truth.to_numpy().astype(np.int64))
        numbers = names if isinstance(names, Tensor) else _class_numbers(names, classes)
        total.add(labels, numbers, confidence)
    return total.summary(pool.classes)


def _kept_precision(pool: PoolRef, labels: LabelsRef) -> dict[str, Any] | None:
    """Return how many of the kept, and of the rejected, pseudo-labels of a labelling are right."""
    if not pool.labeled:
        return None
    counts = {"kept": 0, "kept_right": 0, "rejected": 0, "rejected_right": 0}
    images = iter_tables(pool.uri, ["image_id", "label", "duplicate_of"])
    for part, table in zip(
        iter_tables(labels.uri, ["image_id", "label", "kept", "reason"]), images, strict=True
    ):
        part = part.filter(pc.not_equal(part["reason"], Reason.ANSWERED))  # noqa: PLW2901
        known = table.filter(pc.is_null(table["duplicate_of"]))
        rows = pc.index_in(part["image_id"], known["image_id"].combine_chunks())
        right = pc.equal(known["label"].take(rows), part["label"]).fill_null(fill_value=False)
        kept, right = part["kept"].to_numpy(), right.to_numpy(zero_copy_only=False)
        counts["kept"] += int(kept.sum())
        counts["kept_right"] += int((kept & right).sum())
        counts["rejected"] += int((~kept).sum())
        counts["rejected_right"] += int((~kept & right).sum())
    kept_share = counts["kept_right"] / counts["kept"] if counts["kept"] else None
    rejected_share = counts["rejected_right"] / counts["rejected"] if counts["rejected"] else None
    return {**counts, "kept_precision": kept_share, "rejected_precision": rejected_share}


def _class_numbers(names: Any, classes: pa.Array) -> Tensor:
    return torch.from_numpy(pc.index_in(names, classes).to_numpy().astype(np.int64))


def _accuracy(found: dict[str, Any] | None) -> float | None:
    return None if found is None else float(found["accuracy"])


def _number(value: Tensor) -> float | None:
    return None if math.isnan(float(value)) else float(value)
