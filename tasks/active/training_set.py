"""What a round is trained on: answers so far, and what the round before was surest of."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore import cleaning
from tasks.active.rounds import Rounds
from tasks.active.start import StartRef, read_beginning
from tasks.label.table import Candidates, candidates, merge_top
from tasks.pool.readers import only_pool
from tasks.refs import AnswersRef, BackboneRef, PoolRef
from tasks.specs import ActiveSpec
from tasks.storage.columns import class_numbers, read_features
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import part_uris
from tasks.storage.tables import read_table


@dataclass(frozen=True)
class RoundJob:
    """What the training of a round is told."""

    folder: str
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


@dataclass(frozen=True)
class Lesson:
    """The images that a round is trained on: those with an answer first, each kind by id."""

    ids: list[str]
    answers: Tensor
    pseudo_labels: Tensor

    @property
    def facts(self) -> dict[str, int]:
        """Return how many there are of each kind."""
        return {"labels": len(self.answers), "pseudo": len(self.pseudo_labels)}


def read_lesson(job: RoundJob) -> Lesson:
    """Return what the round knows, of images of the pool split alone, whatever was answered."""
    rows = read_table(job.answers.uri, ["image_id", "kind", "label"]).to_pylist()
    labels = {row["image_id"]: row["label"] for row in rows if row["kind"] == "label"}
    closed = {row["image_id"] for row in rows if row["kind"] in ("label", "none")}
    believed = _believed(job, closed) if job.spec.learner.believes or not labels else {}
    ours = _of_pool(job, set(labels) | set(believed))
    answered, trusted = sorted(ours & set(labels)), sorted(ours & set(believed))
    numbers = [job.pool.classes.index(labels[image]) for image in answered]
    return Lesson(
        ids=[*answered, *trusted],
        answers=torch.tensor(numbers, dtype=torch.long),
        pseudo_labels=torch.tensor([believed[image] for image in trusted], dtype=torch.long),
    )


def _of_pool(job: RoundJob, images: set[str]) -> set[str]:
    """Return those that have features and are in the pool split."""
    wanted = pa.array(sorted(images), pa.string())
    found: set[str] = set()
    for part, uri in enumerate(part_uris(job.start.features.uri)):
        table = read_table(uri, ["image_id"])
        table = table.filter(pc.is_in(table["image_id"], wanted))
        found.update(only_pool(table, job.pool.uri, part)["image_id"].to_pylist())
    return found


def lesson_features(job: RoundJob, ids: list[str]) -> Tensor:
    """Return the features of the start of some images, in their order."""
    found: dict[str, Tensor] = {}
    for uri in part_uris(job.start.features.uri):
        names, features = read_features(uri)
        rows = pc.index_in(pa.array(ids, pa.string()), names)
        for position, row in enumerate(rows.to_pylist()):
            if row is not None:
                found[ids[position]] = features[row]
    return torch.stack([found[i] for i in ids]) if ids else torch.zeros(0, job.start.features.dim)


def lesson_uris(job: RoundJob, ids: list[str]) -> list[str]:
    """Return where the pixels of some images are, in their order."""
    found: dict[str, str] = {}
    wanted = pa.array(ids, pa.string())
    for table in iter_tables(job.pool.uri, ["image_id", "uri", "duplicate_of"]):
        first = table.filter(
            pc.and_(table["duplicate_of"].is_null(), pc.is_in(table["image_id"], wanted))
        )
        found.update(zip(first["image_id"].to_pylist(), first["uri"].to_pylist(), strict=True))
    return [found[image] for image in ids]


def _believed(job: RoundJob, closed: set[str]) -> dict[str, int]:
    """Return image id -> class of the surest images of each class that have no answer."""
    num_classes = len(job.pool.classes)
    spec = job.rounds.spec.active.learner
    per_class = cleaning.resolve_per_class(
        spec.per_class, num_classes=num_classes, minimum_total=spec.min_pseudo
    )
    surest: list[Candidates] = []
    for number, (ids, labels, confidence) in enumerate(_opinions(job)):
        rows = pa.table({"image_id": ids, "row": pa.array(range(len(ids)))})
        free = only_pool(rows, job.pool.uri, number)
        free = free.filter(
            pc.invert(pc.is_in(free["image_id"], pa.array(sorted(closed), pa.string())))
        )
        keep = torch.from_numpy(free["row"].to_numpy().copy())
        surest.append(
            candidates(
                free["image_id"],
                labels[keep],
                confidence[keep],
                shard=number,
                num_classes=num_classes,
                per_class=per_class,
            )
        )
    return merge_top(surest, num_classes=num_classes, per_class=per_class)


def _opinions(job: RoundJob) -> Any:
    """Yield (ids, class numbers, how sure) of every shard: the last round's, or the start's."""
    if job.last_scores is not None:
        for table in iter_tables(job.last_scores, ["image_id", "label", "gap"]):
            labels = class_numbers(job.pool.classes, table["label"])
            yield table["image_id"], labels, torch.from_numpy(table["gap"].to_numpy().copy())
        return
    beginning = read_beginning(job.start)
    for uri in part_uris(job.start.features.uri):
        ids, features = read_features(uri)
        confidence, labels = beginning.name(features)
        yield ids, labels, confidence
