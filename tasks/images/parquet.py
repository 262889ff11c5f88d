"""Images in rows of Parquet files: their column, their number, and their bytes by row."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.images.listing import SourceUnreadable, one_line
from tasks.specs import URI
from tasks.storage.files import open_read
from tasks.storage.uris import is_local, join, redact

# What is for testing or validation, and what is not, by the words that Hugging Face knows.
HELD_OUT = frozenset(("test", "testing", "eval", "evaluation", "val", "valid", "validation", "dev"))
_ROWS_AT_ONCE = 64  # bounds the memory for row groups of any size
_BUFFER = 2**20  # bytes of a column that are read at once


@contextmanager
def _open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    try:
        with open_read(uri) as file, pq.ParquetFile(file) as parquet:
            yield parquet
    except Exception as error:  # every driver raises errors of its own
        msg = f"{redact(uri)}: expected a Parquet file ({one_line(error)}); repair or remove it"
        raise SourceUnreadable(msg) from error


def read_schema(uri: str) -> pa.Schema:
    """Return the schema of a Parquet file.

    Raises:
        SourceUnreadable: the file is no Parquet file.
    """
    with _open_parquet(uri) as parquet:
        return parquet.schema_arrow


def survey(uri: str) -> tuple[pa.Schema, int, int]:
    """Return the schema, the number of rows, and of those that the column `split` calls test.

    Raises:
        SourceUnreadable: the file is no Parquet file.
    """
    with _open_parquet(uri) as parquet:
        schema, num_test = parquet.schema_arrow, 0
        for batch in parquet.iter_batches(columns=["split"]) if "split" in schema.names else ():
            num_test += pc.sum(is_test(batch.column(0).cast(pa.string()))).as_py() or 0
        return schema, parquet.metadata.num_rows, num_test


def is_test(splits: Any) -> Any:
    """Return which rows are held out by their column `split`; any other may be trained on."""
    words = pc.utf8_lower(pc.utf8_trim_whitespace(splits))
    return pc.is_in(words, pa.array(sorted(HELD_OUT)))


def image_column(uri: str, schema: pa.Schema) -> str:
    """Return the column of the images, bytes or paths of files, or `uri` where that names files.

    Raises:
        SourceUnreadable: there is no column `image` or `uri` of the right type.
    """
    if (index := schema.get_field_index("image")) >= 0:
        kind = schema.field(index).type
        if pa.types.is_struct(kind) and _fields_of(kind):
            return "image"  # as Hugging Face datasets writes images
        if _is_bytes(kind) or _is_text(kind):
            return "image"
        msg = (
            f"{redact(uri)}: expected bytes or paths in column image, or a struct of bytes and "
            f"path, got {kind}; store encoded images"
        )
        raise SourceUnreadable(msg)
    if schema.get_field_index("uri") >= 0:
        return "uri"
    msg = (
        f"{redact(uri)}: expected a column image (bytes) or uri, got {', '.join(schema.names)}; "
        "rename the column that holds the images"
    )
    raise SourceUnreadable(msg)


def _fields_of(kind: pa.StructType) -> list[str]:
    """Return the fields of a struct that have the bytes of an image, and its path."""
    checks = {"bytes": _is_bytes, "path": _is_text}
    names = [field.name for field in kind]
    return [name for name, fits in checks.items() if name in names and fits(kind.field(name).type)]


def _is_bytes(kind: pa.DataType) -> bool:
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(check(kind) for check in checks)


def _is_text(kind: pa.DataType) -> bool:
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in checks)


def read_columns(uri: str, columns: Sequence[str], *, first: int = 0, rows: int = -1) -> pa.Table:
    """Return columns of rows `first` to `first + rows` of a Parquet file, to the end by default."""
    with open_read(uri) as file, pq.ParquetFile(file) as parquet:
        last = parquet.metadata.num_rows if rows < 0 else first + rows
        spans = [span for span in _spans(parquet) if span[1] < last and span[2] > first]
        table = parquet.read_row_groups([span[0] for span in spans], columns=list(columns))
    skipped = spans[0][1] if spans else 0
    return table.slice(first - skipped, last - first)


def resolve(uri: str, table: str) -> str:
    """Return an absolute URI; a relative one starts in the folder of its table."""
    if URI.match(uri) or uri.startswith("/"):
        return uri
    joined = join(table.rpartition("/")[0], uri)
    return os.path.normpath(joined) if is_local(joined) else joined


def scan_images(
    uri: str, wanted: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, bytes | str | OSError | None]]:
    """Yield (index, image bytes) for some rows; only their row groups are read.

    A row with a path and no bytes yields the URI of the file that it names.

    The rows of a damaged row group yield an OSError; other rows are not affected.

    Args:
        uri: The Parquet file.
        wanted: Sorted (row, index) pairs; the index identifies the row in the result.
    """
    with (
        open_read(uri) as file,
        pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as parquet,
    ):
        column = image_column(uri, parquet.schema_arrow)
        kind = parquet.schema_arrow.field(column).type
        fields = _fields_of(kind) if pa.types.is_struct(kind) else []
        columns = [f"{column}.{name}" for name in fields] or [column]
        for group, start, end in _spans(parquet):
            remaining = {index: row - start for row, index in wanted if start <= row < end}
            if not remaining:
                continue
            try:
                for index, cell in _scan_group(parquet, group, columns, remaining):
                    del remaining[index]
                    yield index, resolve(cell, uri) if isinstance(cell, str) else cell
            except Exception as error:  # noqa: BLE001  # of drivers, and of Arrow on bad pages
                yield from ((index, OSError(one_line(error))) for index in remaining)


def _scan_group(
    parquet: pq.ParquetFile, group: int, columns: Sequence[str], rows: Mapping[int, int]
) -> Iterator[tuple[int, bytes | str | None]]:
    remaining = iter([*sorted((row, index) for index, row in rows.items()), (-1, -1)])
    row, index = next(remaining)
    start = 0
    for batch in parquet.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=list(columns)):
        images = batch.column(0)
        while start <= row < start + len(images):
            yield index, _cell(images[row - start].as_py())
            row, index = next(remaining)
        if row < 0:
            return
        start += len(images)


def _cell(value: Any) -> bytes | str | None:
    """Return the bytes of an image, or of a row that has none its path; None for neither."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path") or value.get("bytes")
    return None if value == "" else value


def _spans(parquet: pq.ParquetFile) -> list[tuple[int, int, int]]:
    """Return (number, first row, row after the last) of every row group."""
    spans, start = [], 0
    for group in range(parquet.metadata.num_row_groups):
        end = start + parquet.metadata.row_group(group).num_rows
        spans.append((group, start, end))
        start = end
    return spans
