"""Answers come in: from a person's file, or by script from known labels."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from tasks.active.checks import COLUMN, NO_LABELS
from tasks.active.rounds import Rounds, asked_ids, read_query
from tasks.answers.matching import match
from tasks.answers.outcome import ImportReport
from tasks.answers.reading import read_answers
from tasks.answers.record import import_answers
from tasks.answers.schema import SKIP
from tasks.pool.readers import iter_images
from tasks.pool.truth import TrueLabels
from tasks.refs import ImagesRef, TaskRef
from tasks.specs import InputError
from tasks.storage.stage import step


@step("answer")
def take_answers(rounds: Rounds, uri: str, images: ImagesRef, task: TaskRef) -> ImportReport:
    """Add a file of answers to the rounds; the same file again adds nothing.

    An answer about an image of the test split, or about a copy of one, is kept and not used.

    Raises:
        InputError: the file cannot be read as answers.
    """
    return _import(rounds, uri, images, task)


@step("answer by script")
def answer_by_script(rounds: Rounds, oracle: str, images: ImagesRef, task: TaskRef) -> ImportReport:
    """Answer the last query, and nothing else, from a file of labels or from the pool's own.

    What the oracle does not know it skips, so that it is not asked again.

    Raises:
        InputError: the oracle knows no image of the pool at all.
    """
    asked = read_query(rounds, rounds.number - 1)["image_id"].combine_chunks()
    own = oracle == COLUMN
    labelled = _own_labels(asked, task) if own else _of_file(asked, oracle, images, task)
    unknown = asked.filter(pc.invert(pc.is_in(asked, labelled["image_id"].combine_chunks())))
    skipped = pa.table({"image_id": unknown, "label": pa.array([SKIP] * len(unknown), pa.string())})
    labelled = pa.concat_tables([labelled, skipped])
    with tempfile.TemporaryDirectory(prefix="coft-oracle-") as folder:
        path = Path(folder) / f"oracle-round-{rounds.number - 1}.csv"
        pacsv.write_csv(labelled, path)
        return _import(rounds, str(path), images, task)


def _import(rounds: Rounds, uri: str, images: ImagesRef, task: TaskRef) -> ImportReport:
    located = iter_images(images, ["image_id", "uri"], "pool")
    return import_answers(
        rounds.folder, uri, classes=task.classes, pool=located, queried=asked_ids(rounds)
    )


def _own_labels(asked: pa.Array, task: TaskRef) -> pa.Table:
    """Return `image_id, label` of those asked about that carry a label."""
    if not task.labeled:
        raise InputError(NO_LABELS)
    return TrueLabels(task).about(asked, "pool").select(["image_id", "label"])


def _of_file(asked: pa.Array, uri: str, images: ImagesRef, task: TaskRef) -> pa.Table:
    """Return `image_id, label` of those asked about that a file labels, by id or by URI."""
    located = iter_images(images, ["image_id", "uri"], "pool")
    table = match(read_answers(uri, task.classes), task.classes, located)
    table = table.filter(pc.and_(table["problem"].is_null(), pc.equal(table["kind"], "label")))
    if not len(table):
        raise InputError(
            f"--oracle {uri}: expected labels of images of the pool, found none. Name a file of "
            "answers about these images."
        )
    return table.filter(pc.is_in(table["image_id"], asked)).select(["image_id", "label"])
