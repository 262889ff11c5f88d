"""Answers in CSV and Parquet: a column of image ids or URIs, and a column of labels."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.answers.fields import read_text, read_time
from tasks.answers.schema import Answer, BadAnswers, Kind
from tasks.images.listing import one_line

# Our name of a column, and its names in files; the second is that of Label Studio's CSV export.
_ALIASES = {
    "image_id": ("image_id",),
    "uri": ("uri",),
    "label": ("label", "choice"),
    "kind": ("kind",),
    "annotator": ("annotator",),
    "answered_at": ("answered_at", "updated_at"),
}
_READ = frozenset(name for names in _ALIASES.values() for name in names)
_KINDS = ("label", "skip", "none")
_DELIMITERS = ",;\t"  # a spreadsheet writes the second one where the comma is the decimal sign


def from_csv(text: str) -> Iterator[Answer]:
    """Yield the answers of a CSV file; row numbers are those of a spreadsheet, header included.

    Raises:
        BadAnswers: a column is missing, a quote is not closed, or a value is invalid.
    """
    header = text.lstrip().partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    positions: dict[str, int] | None = None
    row = 0
    try:
        for row, cells in enumerate(reader, start=1):  # `row` is also used by the error below
            if positions is None:
                positions = _find_columns(cells) if any(cell.strip() for cell in cells) else None
                continue
            yield _answer({name: cells[i] for name, i in positions.items() if i < len(cells)}, row)
    except csv.Error as error:
        msg = f"row {row + 1}: expected CSV ({error}); check the quotes, or save it again"
        raise BadAnswers(msg) from error


def from_parquet(data: bytes) -> Iterator[Answer]:
    """Yield the answers of a Parquet file; the first row is 1.

    Raises:
        BadAnswers: it is damaged, a column is missing, or a value is invalid.
    """
    header, columns = _read_columns(data)
    positions = _find_columns(header)
    for row, _ in enumerate(columns[positions["label"]]):
        yield _answer({name: columns[i][row] for name, i in positions.items()}, row + 1)


def _read_columns(data: bytes) -> tuple[list[str], dict[int, list[str | None]]]:
    """Return the names of all columns, and by position the texts of those that are used."""
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as parquet:
            header: list[str] = parquet.schema_arrow.names
            used = [i for i, name in enumerate(header) if name.strip().lower() in _READ]
            table = parquet.read(columns=[header[i] for i in used])
        return header, {i: _texts(table[header[i]]).to_pylist() for i in used}
    except Exception as error:  # damaged files raise errors of all kinds
        msg = f"expected a Parquet file with texts ({one_line(error)}); write it again"
        raise BadAnswers(msg) from error


def _find_columns(header: Sequence[str]) -> dict[str, int]:
    """Return the position of each column that is used, by our name for it."""
    by_name = {name.strip().lower(): i for i, name in reversed(list(enumerate(header)))}
    positions = {
        name: next(by_name[alias] for alias in aliases if alias in by_name)
        for name, aliases in _ALIASES.items()
        if any(alias in by_name for alias in aliases)
    }
    has_image = "image_id" in positions or "uri" in positions
    required = {"image_id (or uri)": has_image, "label": "label" in positions}
    if missing := [name for name, present in required.items() if not present]:
        got = ", ".join(name[:40] for name in header[:8]) or "none"
        msg = f"expected a column {' and a column '.join(missing)}, got {got}; rename or add it"
        raise BadAnswers(msg)
    return positions


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        # Arrow's own text of a time has no `T`, and drops the zone of a time that has one.
        zone = "" if column.type.tz is None else "+00:00"
        texts = column.cast(pa.timestamp("us"), safe=False).cast(pa.string()).to_pylist()
        return pa.chunked_array([pa.array([t and t + zone for t in texts], pa.string())])
    return column.cast(pa.string())


def _answer(cells: Mapping[str, Any], row: int) -> Answer:
    image_id, uri = read_text(cells.get("image_id")), read_text(cells.get("uri"))
    return Answer(
        image_id=image_id and image_id.strip(),
        uri=None if image_id else uri,
        kind=_kind(cells.get("kind"), row),
        label=read_text(cells.get("label")),
        annotator=(read_text(cells.get("annotator")) or "").strip(),
        answered_at=read_time(cells.get("answered_at"), f"row {row}, column answered_at"),
        row=row,
    )


def _kind(value: object, row: int) -> Kind | None:
    text = (read_text(value) or "").strip().lower()
    if text in ("", *_KINDS):
        return cast("Kind", text) if text else None
    msg = f"row {row}, column kind: expected {', '.join(_KINDS)} or nothing, got {text[:40]!r}"
    raise BadAnswers(f"{msg}; correct it, or leave the column out")
