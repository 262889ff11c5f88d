"""Keep answers: one immutable file for each import, and the decision that all of them make."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

import pyarrow as pa
import pyarrow.compute as pc

from tasks.answers.matching import UNKNOWN_LABEL, match
from tasks.answers.merging import Votes, add_votes, count_votes
from tasks.answers.outcome import ImportReport
from tasks.answers.reading import load, parse_answers, read_answers
from tasks.answers.schema import BadAnswers
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
    """Add a file of answers to `<folder>/answers` and say what is new in it.

    Everything that the file says is kept, also what cannot be used (with a `problem`). A file
    that was imported before adds nothing, by whatever name it comes, unless other class names or
    images make something else of it.

    Args:
        folder: Of the rounds.
        uri: Label Studio's JSON or JSON-MIN, CSV or Parquet.
        classes: The class names.
        pool: Tables of (image_id, uri) of the images that may be asked about, one at a time.
        queried: Ids of all images that were asked about, in whatever round.

    Raises:
        BadAnswers: the file cannot be understood; nothing is added.
    """
    data = load(uri)
    digest = hashlib.sha256(data).hexdigest()
    source = redact(uri)
    answers = match(parse_answers(data, source, classes), classes, pool)
    votes = _votes(folder)
    known_as = _find_equal(folder, digest, answers)
    if known_as is not None:
        counts = {"num_repeated": answers["problem"].null_count}
        return _report(source, answers, votes, queried).model_copy(
            update={**counts, "file": known_as, "imported_before": True}
        )
    name = _next_name(folder, digest) if answers.num_rows else ""
    if name:
        facts = {"source": source, "sha256": digest}
        write_table(join(folder, FOLDER, name), answers, facts)
    counts = add_votes(votes, answers)
    return _report(source, answers, votes, queried).model_copy(update={**counts, "file": name})


def iter_imports(folder: str) -> Iterator[pa.Table]:
    """Yield what was imported (schema `IMPORTED`), in that order, one file in memory at a time."""
    for name in _imports(folder):
        yield read_table(join(folder, FOLDER, name))


def merge(folder: str) -> pa.Table:
    """Return what all imports together say of each image (schema `MERGED`), sorted by image id."""
    return count_votes(_votes(folder))


def decide(uri: str, *, classes: Sequence[str], pool: Iterable[pa.Table]) -> tuple[pa.Table, int]:
    """Return what one file of answers says of each image (schema `MERGED`), and keep nothing.

    The number is that of answers that cannot be used.

    Args:
        uri: Label Studio's JSON or JSON-MIN, CSV or Parquet.
        classes: The class names.
        pool: Tables of (image_id, uri) of the images that it may be about, one at a time.

    Raises:
        BadAnswers: the file cannot be understood, or no answer in it can be used.
    """
    answers = match(read_answers(uri, classes), classes, pool)
    votes: Votes = {}
    add_votes(votes, answers)
    if not votes:
        problems = Counter(answers["problem"].drop_null().to_pylist())
        found = ", ".join(f"{count:,} with {name}" for name, count in problems.most_common())
        msg = (
            f"{redact(uri)}: expected answers about images of the pool, one of the class "
            f"names each; found {found or 'none'}. Check that images and classes are those that "
            "were asked about."
        )
        raise BadAnswers(msg)
    return count_votes(votes), len(answers) - answers["problem"].null_count


def _votes(folder: str) -> Votes:
    votes: Votes = {}
    for table in iter_imports(folder):
        add_votes(votes, table)
    return votes


def _imports(folder: str) -> list[str]:
    names = names_in(join(folder, FOLDER))
    return sorted((name for name in names if _FILE.fullmatch(name)), key=_order)


def _find_equal(folder: str, digest: str, answers: pa.Table) -> str | None:
    """Return the import of the same content with the same outcome."""
    same = (name for name in _imports(folder) if digest[:12] in name)
    uris = {name: join(folder, FOLDER, name) for name in same}
    return next((n for n, uri in uris.items() if read_table(uri).equals(answers)), None)


def _order(name: str) -> tuple[int, str]:
    number, digest = name.removesuffix(".parquet").split("-")
    return int(number), digest


def _next_name(folder: str, digest: str) -> str:
    number = max((_order(name)[0] for name in _imports(folder)), default=0) + 1
    return f"{number:04d}-{digest[:12]}.parquet"


def _report(
    source: str, answers: pa.Table, votes: Votes, queried: AbstractSet[str]
) -> ImportReport:
    bad = answers.filter(answers["problem"].is_valid())
    labels = bad.filter(pc.equal(bad["problem"], UNKNOWN_LABEL))
    good = answers.filter(answers["problem"].is_null())
    kinds = good["kind"].to_pylist()
    decided = count_votes(votes)
    conflicts = decided.filter(pc.equal(decided["kind"], "conflict"))
    return ImportReport(
        source=source,
        num_answers=answers.num_rows,
        num_skipped=kinds.count("skip"),
        num_none=kinds.count("none"),
        num_unknown_images=bad.num_rows - labels.num_rows,
        num_unknown_labels=labels.num_rows,
        unknown_labels=tuple(sorted(set(labels["written"].to_pylist()))),
        conflicts=tuple(conflicts["image_id"].to_pylist()),
        num_volunteered=len(set(good["image_id"].to_pylist()) - queried),
        num_missing=len(queried - set(decided["image_id"].to_pylist())),
        num_queried=len(queried),
    )
