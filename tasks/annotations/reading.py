"""Read a file of labels: Label Studio, COCO, JSON Lines, CSV or Parquet, told by its content."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa

from tasks.annotations.exports import from_json
from tasks.annotations.label_tables import from_csv, from_parquet
from tasks.annotations.schema import ANSWERS, WORDS, Answer, BadAnswers
from tasks.annotations.spelling import fold
from tasks.annotations.text import NotText, decode
from tasks.images.listing import one_line
from tasks.storage.files import open_read
from tasks.storage.uris import redact

_MAX_BYTES = 2**30
_AT_ONCE = 65536
_FORMATS = "Label Studio's JSON or JSON-MIN, COCO, JSON Lines, CSV or Parquet"


def read_answers(uri: str, classes: Sequence[str], columns: str | None = None) -> pa.Table:
    """Return the labels or answers of a file (schema `ANSWERS`), in its order, without empty ones.

    Args:
        uri: A path or bucket URI.
        classes: The class names; if one is `skip`, that word means the class.
        columns: `IMAGE,LABEL`, the columns or fields, where the person said so.

    Raises:
        BadAnswers: the file cannot be read; the message says where and what to do.
    """
    return parse_answers(load(uri), redact(uri), classes, columns)


def load(uri: str) -> bytes:
    """Return the bytes of a file of answers.

    Raises:
        BadAnswers: it is absent, unreadable, empty, or far too large.
    """
    try:
        with open_read(uri) as file:
            data = file.read(_MAX_BYTES + 1)
    except Exception as error:  # every driver raises errors of its own
        msg = f"{redact(uri)}: expected a file of answers ({one_line(error)}); check the path"
        raise BadAnswers(msg) from error
    if not data.strip():
        msg = f"{redact(uri)}: expected answers, got an empty file; export or save it again"
        raise BadAnswers(msg)
    if len(data) > _MAX_BYTES:
        msg = f"{redact(uri)}: expected at most {_MAX_BYTES:,} bytes; import it in several files"
        raise BadAnswers(msg)
    return data


def parse_answers(
    data: bytes, origin: str, classes: Sequence[str], columns: str | None = None
) -> pa.Table:
    """Return the answers in the bytes of a file, as `read_answers` does."""
    return pa.concat_tables(iter_answers(data, origin, classes, columns))


def iter_answers(
    data: bytes, origin: str, classes: Sequence[str], columns: str | None = None
) -> Iterator[pa.Table]:
    """Yield the answers in the bytes of a file, a bounded number at a time, one table at least."""
    answers = _set_kinds(_parse(data, columns), classes)
    is_first = True
    try:
        while (batch := list(islice(answers, _AT_ONCE))) or is_first:
            cells = zip(*batch, strict=True) if batch else [()] * len(ANSWERS)
            arrays = [pa.array(c, field.type) for c, field in zip(cells, ANSWERS, strict=True)]
            yield pa.Table.from_arrays(arrays, schema=ANSWERS)
            is_first = False
    except BadAnswers as error:
        msg = f"{origin}: {error}"
        raise BadAnswers(msg) from error


def _parse(data: bytes, columns: str | None) -> Iterator[Answer]:
    if data.startswith(b"PAR1"):
        yield from from_parquet(data, columns)
        return
    try:
        text = decode(data)
    except NotText as error:
        msg = f"expected {_FORMATS}, got {error}; save it as CSV (UTF-8)"
        raise BadAnswers(msg) from error
    is_json = text.lstrip()[:1] in ("[", "{")
    yield from from_json(text, columns) if is_json else from_csv(text, columns)


def _set_kinds(answers: Iterable[Answer], classes: Sequence[str]) -> Iterator[Answer]:
    """Set the kind of each answer, and leave out empty ones."""
    folded_classes = {fold(name) for name in classes}
    for answer in answers:
        word = fold(answer.label or "")
        kind = answer.kind or ("label" if word in folded_classes else WORDS.get(word, "label"))
        if word or kind != "label":
            yield answer._replace(kind=kind, label=answer.label if kind == "label" else None)
