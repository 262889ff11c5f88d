"""Tables as text for a terminal, or as files."""

import json
import math
import shutil
from collections.abc import Callable
from io import BytesIO, StringIO
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.specs import InputError
from tasks.storage.files import write_bytes
from tasks.storage.uris import redact

Format = Literal["csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
_ITEMS = 3  # of a list that is shown
_ID = 12  # characters of an image id that are shown, enough to identify it


def to_text(table: pa.Table, max_rows: int = 50, *, width: int | None = None) -> str:
    """Return the first rows as a text of at most `width` characters, by default the terminal's."""
    width = width or shutil.get_terminal_size((120, 24)).columns
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for field in table.schema:
        is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        grid.add_column(
            Text(_printable(field.name)),
            justify="right" if is_number else "left",
            overflow="fold",  # a path that is cut cannot be copied
        )
    for row in zip(*(column.to_pylist() for column in table.slice(0, max_rows)), strict=True):
        cells = zip(table.column_names, row, strict=True)
        grid.add_row(*(Text(_cell(name, value)) for name, value in cells))
    file = StringIO()
    Console(file=file, width=width, highlight=False, no_color=True).print(grid)
    shown = min(max_rows, table.num_rows)
    rows = "row" if table.num_rows == 1 else "rows"
    count = f"{shown:,} of {table.num_rows:,}" if shown < table.num_rows else f"{shown:,}"
    lines = (line.rstrip() for line in file.getvalue().splitlines())
    return "\n".join([*lines, f"{count} {rows}"]).lstrip("\n")


def write_output(table: pa.Table, output: str, form: Format | None = None) -> None:
    """Write a table to a path or URI, atomically.

    Args:
        table: The rows.
        output: Target.
        form: Format; by default that of the ending of the name.

    Raises:
        InputError: the name has no known ending, or the file cannot be written.
    """
    ending = output.rpartition(".")[2].lower()
    chosen = form or next((name for name in FORMATS if name == ending), None)
    if chosen is None:
        raise InputError(
            f"{redact(output)}: expected a name that ends in one of {', '.join(FORMATS)}, "
            "or --format"
        )
    try:
        write_bytes(output, to_bytes(table, chosen))
    except OSError as error:
        raise InputError(f"{redact(output)}: cannot be written ({error})") from error


def to_bytes(table: pa.Table, form: Format) -> bytes:
    """Return a table in one of the formats; CSV has lists as JSON."""
    writers: dict[str, Callable[[pa.Table], bytes]] = {
        "csv": _csv,
        "json": _json,
        "parquet": _parquet,
    }
    return writers[form](table)


def _csv(table: pa.Table) -> bytes:
    columns = [
        pa.array([None if item is None else _dump(item) for item in column.to_pylist()])
        if pa.types.is_nested(column.type)
        else column
        for column in table.columns
    ]
    buffer = BytesIO()
    pyarrow.csv.write_csv(pa.Table.from_arrays(columns, table.column_names), buffer)
    return buffer.getvalue()


def _json(table: pa.Table) -> bytes:
    rows = (_dump(row) for row in table.to_pylist())
    return ("[" + ",\n ".join(rows) + "]\n").encode()


def _parquet(table: pa.Table) -> bytes:
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _dump(value: object) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        shown = ", ".join(_cell("", item) for item in value[:_ITEMS])
        return f"[{shown}{f', ... {len(value)}' if len(value) > _ITEMS else ''}]"
    text = _printable(str(value))
    return text[:_ID] if name.endswith("image_id") else text


def _printable(text: str) -> str:
    """Escape control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
