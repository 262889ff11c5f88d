"""Read a file of answers: Label Studio's JSON or JSON-MIN, CSV or Parquet, told by its content."""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from tasks.answers.columns import from_csv, from_parquet
from tasks.answers.exports import from_label_studio
from tasks.answers.schema import ANSWERS, WORDS, Answer, BadAnswers, fold
from tasks.images.listing import one_line
from tasks.storage.files import open_read
from tasks.storage.uris import redact

_MAX_BYTES = 2**30
_OTHER_FORMATS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a ZIP or Excel file",
    b"\x1f\x8b": "a gzip file",
    b"%PDF": "a PDF file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def read_answers(uri: str, classes: Sequence[str]) -> pa.Table:
    """Return the answers of a file (schema `ANSWERS`), in its order, without empty ones.

    Args:
        uri: A path or bucket URI.
        classes: The class names; if one is `skip`, that word means the class.

    Raises:
        BadAnswers: the file cannot be read; the message says where and what to do.
    """
    return parse_answers(load(uri), redact(uri), classes)


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


def parse_answers(data: bytes, origin: str, classes: Sequence[str]) -> pa.Table:
    """Return the answers in the bytes of a file, as `read_answers` does."""
    try:
        answers = list(_set_kinds(_parse(data), classes))
    except BadAnswers as error:
        msg = f"{origin}: {error}"
        raise BadAnswers(msg) from error
    columns = zip(*answers, strict=True) if answers else [()] * len(ANSWERS)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, ANSWERS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=ANSWERS)


def _parse(data: bytes) -> Iterator[Answer]:
    if data.startswith(b"PAR1"):
        return from_parquet(data)
    text = _decode(data)
    return from_label_studio(text) if text.lstrip()[:1] in ("[", "{") else from_csv(text)


def _decode(data: bytes) -> str:
    expected = "expected Label Studio's JSON or JSON-MIN, CSV or Parquet"
    for magic, name in _OTHER_FORMATS.items():
        if data.startswith(magic):
            msg = f"{expected}, got {name}; save the answers as CSV (UTF-8)"
            raise BadAnswers(msg)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        msg = f"row {row}: {expected}, got bytes that are not UTF-8; save it as CSV (UTF-8)"
        raise BadAnswers(msg) from error
    if "\0" in text:
        msg = f"{expected}, got binary data; save the answers as CSV (UTF-8)"
        raise BadAnswers(msg)
    return text


def _set_kinds(answers: Iterable[Answer], classes: Sequence[str]) -> Iterator[Answer]:
    """Set the kind of each answer, and leave out empty ones."""
    folded_classes = {fold(name) for name in classes}
    for answer in answers:
        word = fold(answer.label or "")
        kind = answer.kind or ("label" if word in folded_classes else WORDS.get(word, "label"))
        if word or kind != "label":
            yield answer._replace(kind=kind, label=answer.label if kind == "label" else None)
