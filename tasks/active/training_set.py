"""What a round is trained on: answers so far, and what the round before was most confident of."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore.active.training import choose_training
from clipcore.cleaning import resolve_per_class
from tasks.active.rounds import Rounds, has_labels
from tasks.active.specs import ActiveSpec
from tasks.active.spreading import spread_predictions
from tasks.active.start import StartRef, read_start_head
from tasks.label.people import Answers, answers_about
from tasks.label.table import top_of_part
from tasks.pool.shards import shards
from tasks.refs import AnswersRef, BackboneRef, ImagesRef, Ref, TaskRef
from tasks.storage.columns import class_numbers, tensor_of


@dataclass(frozen=True)
class RoundJob:
    """The inputs of the training of a round."""

    folder: str
    digest: str
    answers: AnswersRef
    start: StartRef
    images: ImagesRef
    task: TaskRef
    backbone: BackboneRef
    rounds: Rounds
    last_scores: str | None

    @property
    def spec(self) -> ActiveSpec:
        """Return the settings of the rounds."""
        return self.rounds.spec.active

    @property
    def labels(self) -> dict[str, int]:
        """Return what stands in each row of its history."""
        return {"round": self.rounds.number}


@dataclass(frozen=True)
class RoundImages:
    """The images that a round is trained on: those with an answer first, each kind by id."""

    ids: list[str]
    answers: Tensor
    pseudo_labels: Tensor

    @property
    def facts(self) -> dict[str, int]:
        """Return how many there are of each kind."""
        return {"labels": len(self.answers), "pseudo": len(self.pseudo_labels)}


@dataclass(frozen=True)
class _Predicted:
    """Images with what was predicted for them, and people's answers about them."""

    ids: pa.Array
    labels: Tensor
    confidence: Tensor
    answers: Answers


def read_training_set(job: RoundJob) -> RoundImages:
    """Return what a round is trained on: images of the pool split alone, whatever was answered.

    Of each part the answered images are held, and the most confident ones of each class: all that
    `choose_training` can take.
    """
    spec, num_classes = job.spec.learner, len(job.task.classes)
    images = _all_of([_candidates(job, *part) for part in _predictions(job)])
    ids = images.ids.to_pylist()
    chosen = choose_training(
        images.answers.labels,
        images.labels,
        images.confidence,
        torch.from_numpy(images.answers.closed),
        pseudo_labels=spec.on_pseudo_labels,
        num_classes=num_classes,
        per_class=spec.top.per_class,
        minimum_total=spec.top.min_total,
    )
    return RoundImages(
        ids=[ids[position] for position in chosen.all.tolist()],
        answers=images.answers.labels[chosen.answered],
        pseudo_labels=images.labels[chosen.believed],
    )


def read_start_features(job: RoundJob, ids: list[str]) -> Tensor:
    """Return the features of the start of some images, in their order."""
    features = torch.zeros(len(ids), job.start.features.dim)
    for shard in shards(job.images, job.start.features):
        names, vectors = shard.features()
        rows = pc.index_in(pa.array(ids, pa.string()), names).to_pylist()
        here = [position for position, row in enumerate(rows) if row is not None]
        features[here] = vectors[[rows[position] for position in here]]
    return features


def _candidates(job: RoundJob, ids: pa.Array, labels: Tensor, confidence: Tensor) -> _Predicted:
    """Return those images of one part that may be trained on."""
    top = job.spec.learner.top
    num_classes = len(job.task.classes)
    answers = answers_about(ids, job.answers, job.task.classes)
    is_open = torch.from_numpy(~answers.closed)
    best = top_of_part(
        ids.filter(pa.array(~answers.closed)),
        labels[is_open],
        confidence[is_open],
        num_classes=num_classes,
        per_class=resolve_per_class(
            top.per_class, num_classes=num_classes, minimum_total=top.min_total
        ),
    )
    is_best = pc.is_in(ids, pa.array(best.image_ids, pa.string()))
    wanted = is_best.to_numpy(zero_copy_only=False) | answers.labeled
    return _Predicted(
        ids=ids.filter(pa.array(wanted)),
        labels=labels[torch.from_numpy(wanted)],
        confidence=confidence[torch.from_numpy(wanted)],
        answers=answers.take(wanted),
    )


def _all_of(parts: list[_Predicted]) -> _Predicted:
    """Return the images of all parts, in the order of their ids."""
    none_fits = np.concatenate([part.answers.none_fits for part in parts])
    labels = torch.cat([part.answers.labels for part in parts])
    return _Predicted(
        ids=pa.concat_arrays([part.ids for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        confidence=torch.cat([part.confidence for part in parts]),
        answers=Answers(labels, none_fits),
    )


def _predictions(job: RoundJob) -> Iterator[tuple[pa.Array, Tensor, Tensor]]:
    """Yield (ids, class numbers, confidence) of pool images: of the last round, or the start."""
    if job.last_scores is not None:
        scores = Ref(uri=job.last_scores, digest="scores")
        if _spreads(job):
            parts = shards(job.images, job.start.features, scores)
            yield from spread_predictions(parts, job.answers, job.task.classes)
            return
        for shard in shards(job.images, scores):
            table = shard.read(0, ["image_id", "label", "gap"], "pool")
            labels = class_numbers(job.task.classes, table["label"])
            yield table["image_id"].combine_chunks(), labels, tensor_of(table, "gap")
        return
    head = read_start_head(job.start)
    for shard in shards(job.images, job.start.features):
        ids, features = shard.features(split="pool")
        yield ids, *head.predict(features)


def _spreads(job: RoundJob) -> bool:
    """Say whether neighbours of answers are heard before pseudo-labels are chosen."""
    learner = job.spec.learner
    return learner.spread_answers and learner.on_pseudo_labels and has_labels(job.answers)
