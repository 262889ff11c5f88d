"""Columns of what people wrote about images, the kinds of answers, and their words."""

from datetime import datetime
from typing import Literal, NamedTuple

import pyarrow as pa

from tasks.specs import InputError

Kind = Literal["label", "skip", "none"]

SKIP = "skip"
NONE = "none of these classes"
UNDONE = "undone"  # a kind of the record alone: the annotator took the answer back
WORDS: dict[str, Kind] = {SKIP: "skip", NONE: "none"}

ANSWERS = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),  # as in the file
        ("kind", pa.string()),
        ("label", pa.string()),  # null unless kind is label
        ("annotator", pa.string()),
        ("answered_at", pa.timestamp("us", tz="UTC")),
        ("row", pa.int32()),  # from 1; in a CSV the number of a spreadsheet, header included
    ]
)

# `written` is the label as it stood in the file; `problem` says why an answer is not used.
IMPORTED = ANSWERS.append(pa.field("written", pa.string())).append(pa.field("problem", pa.string()))


class BadAnswers(InputError):
    """A file of labels that cannot be read; the message names the place and the remedy."""


class Answer(NamedTuple):
    """One label or answer of a file; `kind` is None where it depends on the text in `label`."""

    image_id: str | None
    uri: str | None
    kind: Kind | None
    label: str | None
    annotator: str
    answered_at: datetime | None
    row: int
