"""Labels in CSV and Parquet: a column of image names or ids, and a column of labels."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.annotations import delimited
from tasks.annotations.columns import (
    ALIASES,
    Positions,
    choose,
    find_columns,
    guess_columns,
    is_image,
    make_answer,
    only_other,
    word,
)
from tasks.annotations.schema import Answer, BadAnswers
from tasks.images.listing import one_line

_SAMPLE = 100  # rows that tell what a column holds
_READ = frozenset(alias for aliases in ALIASES.values() for alias in aliases)


def from_csv(text: str, chosen: str | None = None) -> Iterator[Answer]:
    """Yield the labels of a CSV file; row numbers are those of a spreadsheet, header included.

    Args:
        text: Of the file.
        chosen: `IMAGE,LABEL`, the columns by header or number, if the person said so.

    Raises:
        BadAnswers: a column is missing, a quote is not closed, a row has more cells than the
            first one, or a value is invalid.
    """
    text = _without_comments(delimited.without_separator_line(text))
    delimiter, positions, has_header = _understand(text, chosen)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    row, width = 0, 0
    try:
        for row, cells in enumerate(reader, start=1):  # `row` is also used by the error below
            if not width:
                width = len(cells) if any(cell.strip() for cell in cells) else 0
                if not width or has_header:
                    continue
            if any(cell.strip() for cell in cells[width:]):
                msg = f"row {row} has {len(cells)} cells, the first one {width}; put quotes around "
                raise BadAnswers(f"{msg}the cell that holds {delimiter!r}")
            yield make_answer({n: cells[i] for n, i in positions.items() if i < len(cells)}, row)
    except csv.Error as error:
        msg = f"row {row + 1}: expected CSV ({error}); check the quotes, or save it again"
        raise BadAnswers(msg) from error


def from_parquet(data: bytes, chosen: str | None = None) -> Iterator[Answer]:
    """Yield the labels of a Parquet file; the first row is 1.

    Raises:
        BadAnswers: it is damaged, a column is missing, or a value is invalid.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as parquet:
            header: list[str] = parquet.schema_arrow.names
            if chosen is None:
                words = [word(name) for name in header]
                known = [i for i, name in enumerate(words) if name in _READ]
                used = sorted({*known, *only_other(words).values()})
            else:
                used = sorted({*choose(chosen, header).values()})
            table = parquet.read(columns=[header[i] for i in used])
        columns = {i: _texts(table[header[i]]).to_pylist() for i in used}
    except BadAnswers:
        raise
    except Exception as error:  # damaged files raise errors of all kinds
        msg = f"expected a Parquet file with texts ({one_line(error)}); write it again"
        raise BadAnswers(msg) from error
    count = table.num_rows
    sample = [
        [(columns[i][row] or "") if i in columns else "" for i in range(len(header))]
        for row in range(min(count, _SAMPLE))
    ]
    positions = find_columns(header, sample, chosen)
    for row in range(count):
        yield make_answer({name: columns[i][row] for name, i in positions.items()}, row + 1)


def _understand(text: str, chosen: str | None) -> tuple[str, Positions, bool]:
    """Return the delimiter, the columns, and whether the first row is a header.

    A delimiter counts if a header with known words shows, or one column of image names beside one
    of labels.
    """
    refusals, first = list[BadAnswers](), list[delimited.Row]()
    for delimiter in delimited.DELIMITERS:
        rows = _sample(text, delimiter)
        if not rows or len(rows[0].cells) < 2:  # noqa: PLR2004
            continue
        if not first or len(rows[0].cells) > len(first[0].cells):
            first = rows
        header, *body = [row.cells for row in rows]
        if chosen is None and (guessed := guess_columns([header, *body])):
            return delimiter, guessed, False
        try:
            positions = find_columns(header, body, chosen)
        except BadAnswers as error:
            refusals.append(error)
            if chosen is None and (guessed := _below_header(header, body)):
                return delimiter, guessed, True
            continue
        numbers = [part.strip().isdecimal() for part in (chosen or "").split(",")]
        return delimiter, positions, not all(numbers)
    raise _uncertain(text, first, refusals)


def _below_header(header: Sequence[str], body: Sequence[Sequence[str]]) -> Positions | None:
    """Return the columns of rows below headers of any language, if only one reading is possible."""
    width = len(header)
    is_header = not any(map(is_image, header)) and all(len(cells) == width for cells in body)
    return guess_columns(body) if is_header and len(body) > 1 and width == 2 else None  # noqa: PLR2004


def _without_comments(text: str) -> str:
    """Blank the comments above a table, so that rows keep their numbers."""
    lines = text.split("\n")
    for place, line in enumerate(lines):
        if line.strip() and line[:2] != "# ":
            break
        lines[place] = ""
    return "\n".join(lines)


def _sample(text: str, delimiter: str) -> list[delimited.Row]:
    """Return the first rows by a delimiter; fewer where a quote is not closed."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = list[delimited.Row]()
    with suppress(csv.Error):
        for cells in islice(reader, _SAMPLE):
            rows.append(delimited.Row(reader.line_num, [cell.strip() for cell in cells]))
    return [row for row in rows if any(row.cells)]


def _uncertain(text: str, rows: list[delimited.Row], refusals: list[BadAnswers]) -> BadAnswers:
    lines = [line for line in text.split("\n") if line.strip()]
    shown = delimited.show(rows) or ", ".join(repr(line[:80]) for line in lines[:3])
    if refusals:
        reason = str(refusals[0]).removesuffix("; rename or add it")
    else:
        reason = "expected a column image_id (or uri) and a column label, in CSV"
    return BadAnswers(
        f"{reason}; the first rows are {shown}. Rename or add it, or say --label-columns "
        "IMAGE,LABEL with headers, or with numbers from 1 (no header row)"
    )


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        # Arrow's own text of a time has no `T`, and drops the zone of a time that has one.
        zone = "" if column.type.tz is None else "+00:00"
        texts = column.cast(pa.timestamp("us"), safe=False).cast(pa.string()).to_pylist()
        return pa.chunked_array([pa.array([t and t + zone for t in texts], pa.string())])
    return column.cast(pa.string())
