"""The record of answers: one immutable file for each import, and the merged answers of all."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import pyarrow as pa
import pyarrow.compute as pc

from tasks.annotations.matching import UNKNOWN_LABEL, check_most, match
from tasks.annotations.reading import load, parse_answers, read_answers
from tasks.answers.merging import Votes, add_votes, count_votes
from tasks.answers.outcome import ImportReport
from tasks.storage.files import names_in
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join, redact

FOLDER = "answers"
_FILE = re.compile(r"(\d{4,})-([0-9a-f]{12})\.parquet")


def import_answers(
    folder: str,
    uri: str,
    *,
    classes: Sequence[str],
    pool: Iterable[pa.Table],
    queried: AbstractSet[str],
) -> ImportReport:
    """Add a file of answers to `<folder>/answers` and report what is new in it.

    All answers are kept, also those that cannot be used (with a `problem`). A file that was
    imported before adds nothing, whatever its name, unless other class names or images change the
    result.

    Args:
        folder: Folder of the rounds.
        uri: Label Studio's JSON or JSON-MIN, CSV or Parquet.
        classes: The class names.
        pool: Tables of (image_id, uri, name) of images that may be asked about, one at a time.
        queried: Ids of all images that were asked about in any round.

    Raises:
        BadAnswers: the file cannot be read; nothing is added.
    """
    data = load(uri)
    digest = hashlib.sha256(data).hexdigest()
    source = redact(uri)
    answers = match(parse_answers(data, source, classes), classes, pool)
    votes = read_votes(folder)
    earlier_import = _find_import(folder, digest, answers)
    if earlier_import is not None:
        counts = {"num_repeated": answers["problem"].null_count}
        return _report(source, answers, votes, queried).model_copy(
            update={**counts, "file": earlier_import, "imported_before": True}
        )
    name = next_name(folder, digest) if answers.num_rows else ""
    if name:
        facts = {"source": source, "sha256": digest}
        write_table(join(folder, FOLDER, name), answers, facts)
    counts = add_votes(votes, answers)
    return _report(source, answers, votes, queried).model_copy(update={**counts, "file": name})


def iter_imports(folder: str) -> Iterator[pa.Table]:
    """Yield the imports (schema `IMPORTED`) in their order, one file in memory at a time."""
    for name in import_names(folder):
        yield read_table(join(folder, FOLDER, name))


def merge(folder: str) -> pa.Table:
    """Return the merged answers of all imports (schema `MERGED`), sorted by image id."""
    return count_votes(read_votes(folder))


def decide(
    uri: str,
    *,
    classes: Sequence[str],
    pool: Iterable[pa.Table],
    columns: str | None = None,
    allow_partial: bool = False,
) -> tuple[pa.Table, int]:
    """Merge the answers of one file without adding it to a record.

    Args:
        uri: A file of labels.
        classes: The class names.
        pool: Tables of (image_id, uri, name) of images that may have answers, one at a time.
        columns: `IMAGE,LABEL`, the columns of the file, where the person said so.
        allow_partial: Whether answers are read of which fewer than half can be used.

    Returns:
        The merged answers (schema `MERGED`), and the number of answers that cannot be used.

    Raises:
        BadAnswers: the file cannot be read, or too few answers in it can be used.
    """
    answers = match(read_answers(uri, classes, columns), classes, pool)
    check_most(answers, redact(uri), allow_partial=allow_partial)
    votes: Votes = {}
    add_votes(votes, answers)
    return count_votes(votes), len(answers) - answers["problem"].null_count


def read_votes(folder: str) -> Votes:
    """Return what each annotator says of each image, of all imports."""
    votes: Votes = {}
    for table in iter_imports(folder):
        add_votes(votes, table)
    return votes


def import_names(folder: str) -> list[str]:
    """Return the files of all imports in their order."""
    names = names_in(join(folder, FOLDER))
    return sorted((name for name in names if _FILE.fullmatch(name)), key=_sort_key)


def _find_import(folder: str, digest: str, answers: pa.Table) -> str | None:
    """Return the name of the import of the same file with the same result."""
    same_file = (name for name in import_names(folder) if digest[:12] in name)
    uris = {name: join(folder, FOLDER, name) for name in same_file}
    return next((n for n, uri in uris.items() if read_table(uri).equals(answers)), None)


def _sort_key(name: str) -> tuple[int, str]:
    number, digest = name.removesuffix(".parquet").split("-")
    return int(number), digest


def next_name(folder: str, digest: str) -> str:
    """Return the name of the next import; of `digest`, in hexadecimal digits, 12 count."""
    number = max((_sort_key(name)[0] for name in import_names(folder)), default=0) + 1
    return f"{number:04d}-{digest[:12]}.parquet"


def _report(
    source: str, answers: pa.Table, votes: Votes, queried: AbstractSet[str]
) -> ImportReport:
    unusable = answers.filter(answers["problem"].is_valid())
    is_label = pc.equal(unusable["problem"], UNKNOWN_LABEL)
    unknown_labels = unusable.filter(is_label)
    unknown_images = unusable.filter(pc.invert(is_label)).slice(0, 3).to_pylist()
    usable = answers.filter(answers["problem"].is_null())
    kinds = usable["kind"].to_pylist()
    merged = count_votes(votes)
    conflicts = merged.filter(pc.equal(merged["kind"], "conflict"))
    return ImportReport(
        source=source,
        num_answers=answers.num_rows,
        num_skipped=kinds.count("skip"),
        num_none=kinds.count("none"),
        num_unknown_images=unusable.num_rows - unknown_labels.num_rows,
        num_unknown_labels=unknown_labels.num_rows,
        unknown_images=tuple(row["uri"] or row["image_id"] or "" for row in unknown_images),
        unknown_labels=tuple(sorted(set(unknown_labels["written"].to_pylist()))),
        conflicts=tuple(conflicts["image_id"].to_pylist()),
        num_volunteered=len(set(usable["image_id"].to_pylist()) - queried),
        num_missing=len(queried - set(merged["image_id"].to_pylist())),
        num_queried=len(queried),
    )
