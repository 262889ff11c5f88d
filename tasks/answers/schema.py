"""Columns of queries, answers and merged answers, the kinds of answers, and their words."""

from datetime import datetime
from typing import Literal, NamedTuple

import pyarrow as pa

from tasks.specs import InputError

Kind = Literal["label", "skip", "none"]

SKIP = "skip"
NONE = "none of these classes"
WORDS: dict[str, Kind] = {SKIP: "skip", NONE: "none"}
_TIME = pa.timestamp("us", tz="UTC")

QUERY = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float32()),
        ("gap", pa.float32()),
        ("reason", pa.string()),
        ("position", pa.int32()),
        ("round", pa.int32()),
    ]
)
ANSWERS = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),  # as in the file; null where the file has the id
        ("kind", pa.string()),
        ("label", pa.string()),  # null unless kind is label
        ("annotator", pa.string()),
        ("answered_at", _TIME),
        ("row", pa.int32()),  # from 1; in a CSV the number of a spreadsheet, header included
    ]
)
# `written` is the label as it stood in the file; `problem` says why an answer is not used.
IMPORTED = ANSWERS.append(pa.field("written", pa.string())).append(pa.field("problem", pa.string()))
MERGED = pa.schema(
    [
        ("image_id", pa.string()),
        ("kind", pa.string()),  # label, none, skip or conflict
        ("label", pa.string()),
        ("num_annotators", pa.int32()),
        ("votes", pa.string()),
    ]
)


class BadAnswers(InputError):
    """A file of answers that cannot be read; the message names the place and the remedy."""


class Answer(NamedTuple):
    """One answer of a file; `kind` is None where it depends on the text in `label`."""

    image_id: str | None
    uri: str | None
    kind: Kind | None
    label: str | None
    annotator: str
    answered_at: datetime | None
    row: int


def fold(name: str) -> str:
    """Return a name without letter case and spaces around it, for comparison."""
    return name.strip().casefold()
