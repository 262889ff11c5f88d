"""What a round is trained on: answers so far, and what the round before was most confident of."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore.active.training import choose_training
from clipcore.cleaning import resolve_per_class
from tasks.active.rounds import Rounds
from tasks.active.start import StartRef, read_start_head
from tasks.label.people import Answers, answers_about
from tasks.label.table import top_of_part
from tasks.pool.readers import of_pool_split
from tasks.refs import AnswersRef, BackboneRef, PoolRef
from tasks.specs import ActiveSpec
from tasks.storage.columns import class_numbers, read_features, tensor_of
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import part_uris


@dataclass(frozen=True)
class RoundJob:
    """The inputs of the training of a round."""

    folder: str
    digest: str
    answers: AnswersRef
    start: StartRef
    pool: PoolRef
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

    ids: list[str]
    labels: Tensor
    confidence: Tensor
    answers: Answers


def read_training_set(job: RoundJob) -> RoundImages:
    """Return what a round is trained on: images of the pool split alone, whatever was answered.

    Of each part the answered images are held, and the most confident ones of each class: all that
    `choose_training` can take.
    """
    spec, num_classes = job.spec.learner, len(job.pool.classes)
    parts = [_candidates(job, number, *part) for number, part in enumerate(_predictions(job))]
    images = _by_id(parts)
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
        ids=[images.ids[position] for position in chosen.all.tolist()],
        answers=images.answers.labels[chosen.answered],
        pseudo_labels=images.labels[chosen.believed],
    )


def read_start_features(job: RoundJob, ids: list[str]) -> Tensor:
    """Return the features of the start of some images, in their order."""
    features = torch.zeros(len(ids), job.start.features.dim)
    for uri in part_uris(job.start.features.uri):
        names, vectors = read_features(uri)
        rows = pc.index_in(pa.array(ids, pa.string()), names).to_pylist()
        here = [position for position, row in enumerate(rows) if row is not None]
        features[here] = vectors[[rows[position] for position in here]]
    return features


def _candidates(
    job: RoundJob, number: int, ids: pa.Array, labels: Tensor, confidence: Tensor
) -> _Predicted:
    """Return the images of one part that may be trained on."""
    top = job.spec.learner.top
    num_classes = len(job.pool.classes)
    table = pa.table({"image_id": ids, "row": pa.array(range(len(ids)), pa.int64())})
    table = of_pool_split(table, job.pool, number).sort_by("image_id")  # ties go to the lower id
    rows = tensor_of(table, "row")
    answers = answers_about(table["image_id"], job.answers, job.pool.classes)
    is_open = torch.from_numpy(~answers.closed)
    best = top_of_part(
        table["row"].filter(pa.array(is_open.numpy())),
        labels[rows][is_open],
        confidence[rows][is_open],
        part=number,
        num_classes=num_classes,
        per_class=resolve_per_class(
            top.per_class, num_classes=num_classes, minimum_total=top.min_total
        ),
    )
    wanted = pc.or_(
        pc.is_in(table["row"], pa.array(best.image_ids, pa.int64())),
        pa.array(answers.labeled),
    ).to_numpy()
    return _Predicted(
        ids=table["image_id"].filter(pa.array(wanted)).to_pylist(),
        labels=labels[rows][torch.from_numpy(wanted)],
        confidence=confidence[rows][torch.from_numpy(wanted)],
        answers=answers.take(wanted),
    )


def _by_id(parts: list[_Predicted]) -> _Predicted:
    """Return the images of all parts in the order of their ids."""
    ids = [image for part in parts for image in part.ids]
    order = torch.tensor(sorted(range(len(ids)), key=lambda row: ids[row]), dtype=torch.long)
    labels = torch.cat([part.answers.labels for part in parts])
    none_fits = torch.cat([torch.from_numpy(part.answers.none_fits) for part in parts])
    return _Predicted(
        ids=[ids[row] for row in order.tolist()],
        labels=torch.cat([part.labels for part in parts])[order],
        confidence=torch.cat([part.confidence for part in parts])[order],
        answers=Answers(labels[order], none_fits[order].numpy()),
    )


def _predictions(job: RoundJob) -> Iterator[tuple[pa.Array, Tensor, Tensor]]:
    """Yield (ids, class numbers, confidence) of every part: the last round's, or the start's."""
    if job.last_scores is not None:
        for table in iter_tables(job.last_scores, ["image_id", "label", "gap"]):
            labels = class_numbers(job.pool.classes, table["label"])
            yield table["image_id"].combine_chunks(), labels, tensor_of(table, "gap")
        return
    head = read_start_head(job.start)
    for uri in part_uris(job.start.features.uri):
        ids, features = read_features(uri)
        yield ids, *head.predict(features)
