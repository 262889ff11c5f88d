"""Answers come in: from a person's file, or by script from known labels."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from tasks.active.checks import COLUMN, NO_LABELS
from tasks.active.rounds import Rounds, asked_ids, read_query
from tasks.annotations.matching import check_most, match
from tasks.annotations.reading import read_answers
from tasks.annotations.schema import SKIP
from tasks.answers.outcome import ImportReport
from tasks.answers.record import import_answers
from tasks.pool.readers import iter_images
from tasks.pool.truth import TrueLabels
from tasks.refs import ImagesRef, TaskRef
from tasks.specs import InputError, PoolSpec
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import step
from tasks.storage.uris import redact


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
    if oracle == COLUMN:
        labelled = _own_labels(asked, task)
    else:
        labelled = _of_file(asked, oracle, images, task, rounds.spec.active.run.pool)
    unknown = asked.filter(pc.invert(pc.is_in(asked, labelled["image_id"].combine_chunks())))
    skipped = pa.table({"image_id": unknown, "label": pa.array([SKIP] * len(unknown), pa.string())})
    labelled = pa.concat_tables([labelled, skipped])
    with tempfile.TemporaryDirectory(prefix="coft-oracle-") as folder:
        path = Path(folder) / f"oracle-round-{rounds.number - 1}.csv"
        pacsv.write_csv(labelled, path)
        return _import(rounds, str(path), images, task)


def _import(rounds: Rounds, uri: str, images: ImagesRef, task: TaskRef) -> ImportReport:
    located = iter_images(images, ["image_id", "uri", "name"], "pool")
    return import_answers(
        rounds.folder, uri, classes=task.classes, pool=located, queried=asked_ids(rounds)
    )


def _own_labels(asked: pa.Array, task: TaskRef) -> pa.Table:
    """Return `image_id, label` of those asked about that carry a label."""
    if not task.labeled:
        raise InputError(NO_LABELS)
    return TrueLabels(task).about(asked, "pool").select(["image_id", "label"])


def _of_file(
    asked: pa.Array, uri: str, images: ImagesRef, task: TaskRef, spec: PoolSpec
) -> pa.Table:
    """Return `image_id, label` of those asked about that a file labels, by id or by name."""
    located = iter_tables(images.uri, ["image_id", "uri", "name"])
    answers = match(read_answers(uri, task.classes, spec.label_columns), task.classes, located)
    origin = f"--oracle {redact(uri)}"
    check_most(answers, origin, allow_partial=spec.allow_partial_labels)
    usable = pc.and_(answers["problem"].is_null(), pc.equal(answers["kind"], "label"))
    known = answers.filter(pc.and_(usable, pc.is_in(answers["image_id"], asked)))
    return known.select(["image_id", "label"])
