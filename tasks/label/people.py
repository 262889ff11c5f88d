"""What people said of the images, which every labelling heeds before any model."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from tasks.answers.matching import askable
from tasks.answers.record import FOLDER, decide, merge
from tasks.pool.readers import only_pool
from tasks.progress import say
from tasks.refs import AnswersRef, PoolRef
from tasks.specs import CoftSpec, InputError
from tasks.storage.columns import class_numbers
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists, names_in
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import step
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join, redact

KIND = "answers"


@step("read answers")
def known_answers(pool: PoolRef, spec: CoftSpec) -> AnswersRef | None:
    """Return what people decided about images of the pool; None when nobody was asked.

    Raises:
        InputError: answers were named that cannot be read, or none is about an image of the pool
            and names one of its classes.
    """
    if spec.answers is None:
        return None
    known, unused = _decided(spec.answers, pool)
    labels = known.filter(pc.equal(known["kind"], "label"))
    if not len(labels):
        raise InputError(
            f"--answers {redact(spec.answers)}: expected labels of images to learn from, "
            "found none. Name a file of answers about these images, or a folder of rounds."
        )
    rows = known.select(["image_id", "kind", "label"]).sort_by("image_id")
    digest = fingerprint(KIND, pool.digest, rows.to_pylist())
    uri = join(spec.runtime.workspace, KIND, f"{digest}.parquet")
    if not exists(uri):
        write_table(uri, rows)
    of_classes = f"{len(pc.unique(labels['label']))} of {len(pool.classes)} classes"
    more = f"; {unused:,} name no image to learn from, or none of its classes" if unused else ""
    say(f"Answers: {len(labels):,} labels of {of_classes}{more}")
    return AnswersRef(uri=uri, digest=digest, rows=len(rows), num_labels=len(labels))


@dataclass(frozen=True)
class Told:
    """What people said of some images, in their order.

    Attributes:
        labels: Class numbers, -1 where nobody named one.
        none_fits: Where a person said that no class fits.
    """

    labels: Tensor
    none_fits: np.ndarray

    @property
    def named(self) -> np.ndarray:
        """Return where a person named a class."""
        named: np.ndarray = (self.labels >= 0).numpy()
        return named

    @property
    def settled(self) -> np.ndarray:
        """Return where no model has a say any more."""
        settled: np.ndarray = self.named | self.none_fits
        return settled


def told(answers: AnswersRef | None, ids: pa.ChunkedArray, classes: tuple[str, ...]) -> Told:
    """Return what people said of images by their ids."""
    if answers is None:
        return Told(torch.full((len(ids),), -1), np.zeros(len(ids), bool))
    known = read_table(answers.uri, ["image_id", "kind", "label"])
    rows = pc.index_in(ids, known["image_id"].combine_chunks())
    none_fits = pc.equal(known["kind"].take(rows), "none").fill_null(fill_value=False)
    labels = class_numbers(classes, known["label"].take(rows))
    return Told(labels, none_fits.to_numpy().astype(bool))


@dataclass(frozen=True)
class Unsettled:
    """The images that a model may label: of the pool split, and settled by nobody."""

    pool: PoolRef
    answers: AnswersRef | None

    def among(self, table: pa.Table, number: int) -> pa.Table:
        """Return the rows about such images; `number` is the part of the pool that has them."""
        table = only_pool(table, self.pool.uri, number)
        settled = told(self.answers, table["image_id"], self.pool.classes).settled
        return table.filter(pa.array(~settled))


def _decided(where: str, pool: PoolRef) -> tuple[pa.Table, int]:
    """Return labels and "none of these" for images of the pool, and how many could not be used."""
    unused = 0
    if names_in(join(where, FOLDER)):
        known = merge(where)
    else:
        images = iter_tables(pool.uri, ["image_id", "uri"])  # a copy has its original's id
        known, unused = decide(where, classes=pool.classes, pool=images)
    known = known.filter(pc.is_in(known["kind"], pa.array(["label", "none"])))
    ours = _of_pool(known, pool)
    return ours, unused + len(known) - len(ours)


def _of_pool(known: pa.Table, pool: PoolRef) -> pa.Table:
    """Return what is about images to learn from and, where it names a class, one of the pool's."""
    ids = known["image_id"].combine_chunks()
    ours = pa.concat_tables(
        table.filter(pc.is_in(table["image_id"], ids)) for table in askable(pool, ["image_id"])
    )
    is_ours = pc.is_in(known["image_id"], ours["image_id"].combine_chunks())
    names = pa.array(pool.classes, pa.string())
    return known.filter(
        pc.and_(is_ours, pc.or_(known["label"].is_null(), pc.is_in(known["label"], names)))
    )
