"""People's answers, which every labelling takes before the label of a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from tasks.answers.given import check_answers
from tasks.answers.record import FOLDER, decide, merge
from tasks.pool.readers import iter_images, value_of
from tasks.pool.shards import ID, Shard
from tasks.progress import say
from tasks.refs import AnswersRef, ImagesRef, TaskRef
from tasks.specs import CoftSpec, InputError, PoolSpec
from tasks.storage.columns import class_numbers
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists, names_in
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import step
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join, redact


@step("read answers")
def known_answers(images: ImagesRef, task: TaskRef, spec: CoftSpec) -> AnswersRef | None:
    """Write what people decided about the images; None where nobody was asked.

    Raises:
        InputError: answers were named that cannot be read, or none is about an image of the pool
            and names one of its classes.
    """
    check_answers(spec.answers, spec.method, spec.pool.label_columns)
    if spec.answers is None:
        return None
    decisions, unused = _decisions(spec.answers, images, task.classes, spec.pool)
    labels = decisions.filter(pc.equal(decisions["kind"], "label"))
    if not len(labels):
        raise InputError(
            f"--answers {redact(spec.answers)}: expected labels of images to learn from, "
            "found none. Name a file of answers about these images, or a folder of rounds."
        )
    rows = decisions.select(["image_id", "kind", "label"]).sort_by("image_id")
    digest = fingerprint(Folder.ANSWERS, images.digest, rows.to_pylist())
    uri = in_workspace(spec.runtime.workspace, Folder.ANSWERS, f"{digest}.parquet")
    if not exists(uri):
        write_table(uri, rows)
    of_classes = f"{len(pc.unique(labels['label']))} of {len(task.classes)} classes"
    more = f"; {unused:,} name no image to learn from, or none of its classes" if unused else ""
    say(f"Answers: {len(labels):,} labels of {of_classes}{more}")
    return AnswersRef(uri=uri, digest=digest, rows=len(rows), num_labels=len(labels))


@dataclass(frozen=True)
class Answers:
    """People's answers about some images, in the order of the images.

    Attributes:
        labels: Class numbers, -1 where nobody named one.
        none_fits: Where a person said that no class fits.
    """

    labels: Tensor
    none_fits: np.ndarray

    @property
    def labeled(self) -> np.ndarray:
        """Return where a person named a class."""
        labeled: np.ndarray = (self.labels >= 0).numpy()
        return labeled

    @property
    def closed(self) -> np.ndarray:
        """Return where a person decided, so that no model does."""
        closed: np.ndarray = self.labeled | self.none_fits
        return closed

    def take(self, rows: np.ndarray) -> "Answers":
        """Return the answers about some of the images."""
        return Answers(self.labels[rows], self.none_fits[rows])


def answers_about(
    ids: pa.ChunkedArray, answers: AnswersRef | None, classes: tuple[str, ...]
) -> Answers:
    """Return people's answers about images by their ids."""
    if answers is None:
        return Answers(torch.full((len(ids),), -1), np.zeros(len(ids), bool))
    table = read_table(answers.uri, ["image_id", "kind", "label"])
    kinds = value_of(table, ids, "kind")
    none_fits = pc.equal(kinds, "none").fill_null(fill_value=False)
    labels = class_numbers(classes, value_of(table, ids, "label"))
    named = pc.equal(kinds, "label").fill_null(fill_value=False)
    labels[~torch.from_numpy(named.to_numpy().astype(bool))] = -1  # skipped, or contradicting
    return Answers(labels, none_fits.to_numpy().astype(bool))


@dataclass(frozen=True)
class OpenImages:
    """The images that a model may label: of the pool split, and decided by nobody."""

    classes: tuple[str, ...]
    answers: AnswersRef | None

    def read(self, shard: Shard, stage: int, columns: Sequence[str]) -> pa.Table:
        """Return what a stage says of such images."""
        table = shard.read(stage, columns, "pool")
        closed = answers_about(table[ID], self.answers, self.classes).closed
        return table.filter(pa.array(~closed))


def answered_ids(answers: AnswersRef | None) -> list[str]:
    """Return the ids of the images that people decided about, and that are not measured."""
    if answers is None:
        return []
    ids: list[str] = read_table(answers.uri, ["image_id"])["image_id"].to_pylist()
    return ids


def _decisions(
    where: str, images: ImagesRef, classes: tuple[str, ...], spec: PoolSpec
) -> tuple[pa.Table, int]:
    """Return labels and "none of these" for the images, and how many could not be used."""
    unused = 0
    if names_in(join(where, FOLDER)):
        decisions = merge(where)
    else:
        located = iter_tables(images.uri, ["image_id", "uri", "name"])  # a copy has its id
        decisions, unused = decide(
            where,
            classes=classes,
            pool=located,
            columns=spec.label_columns,
            allow_partial=spec.allow_partial_labels,
        )
    decisions = decisions.filter(pc.is_in(decisions["kind"], pa.array(["label", "none"])))
    usable = _usable(decisions, images, classes)
    return usable, unused + len(decisions) - len(usable)


def _usable(decisions: pa.Table, images: ImagesRef, classes: tuple[str, ...]) -> pa.Table:
    """Return what is about images to learn from and, where it names a class, one of these."""
    ids = decisions["image_id"].combine_chunks()
    known = pa.concat_tables(
        table.filter(pc.is_in(table["image_id"], ids))
        for table in iter_images(images, ["image_id"], "pool")
    )
    of_pool = pc.is_in(decisions["image_id"], known["image_id"].combine_chunks())
    names = pa.array(classes, pa.string())
    of_classes = pc.or_(decisions["label"].is_null(), pc.is_in(decisions["label"], names))
    return decisions.filter(pc.and_(of_pool, of_classes))
