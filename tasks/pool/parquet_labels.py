"""True labels in a column of the images' own Parquet files."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.images.parquet import read_columns, read_schema
from tasks.images.sources import Source
from tasks.pool.classes import names_of_schema
from tasks.pool.label_file import BadLabels
from tasks.storage.uris import redact


def read_labels(uri: str, *, first: int = 0, rows: int = -1) -> pa.ChunkedArray:
    """Return the labels of some rows of a Parquet file as texts.

    Numbers become names if the metadata has a list of them (`classes`, or the features of Hugging
    Face datasets); a negative number and a blank text mean no label, and a number without a name
    stays one. Lists of one label are read.

    Args:
        uri: The file, with a column `label`.
        first: Number of the first row.
        rows: Number of rows, all by default.

    Raises:
        BadLabels: they are neither texts nor numbers, or an image has several.
    """
    column = _one_each(read_columns(uri, ["label"], first=first, rows=rows)["label"], uri)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    if pa.types.is_floating(column.type) and pc.all(pc.equal(column, pc.floor(column))).as_py():
        column = column.cast(pa.int64())  # where some are missing, pandas writes 1.0 for 1
    if not pa.types.is_integer(column.type):
        texts = column.cast(pa.string())
        return pc.if_else(pc.equal(pc.utf8_trim_whitespace(texts), ""), None, texts)
    names = names_of_schema(uri, read_schema(uri))
    has_label = pc.greater_equal(column, 0)
    if not names:
        return pc.if_else(has_label, column.cast(pa.string()), pa.scalar(None, pa.string()))
    numbers = pc.if_else(pc.and_(has_label, pc.less(column, len(names))), column, None)
    named = pa.chunked_array([pa.array(names).take(numbers.combine_chunks())])
    return pc.if_else(has_label, pc.coalesce(named, column.cast(pa.string())), None)


def _one_each(column: pa.ChunkedArray, uri: str) -> pa.ChunkedArray:
    """Return labels that stand in lists of one.

    Raises:
        BadLabels: a list has several, or the type is none of labels.
    """
    kind, origin = column.type, f"--labels column: {redact(uri)}"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        if (pc.max(lengths).as_py() or 0) > 1:
            msg = f"{origin} has several labels in a row; an image has one class, so keep one"
            raise BadLabels(msg)
        ends = pc.cumulative_sum(lengths)
        places = pc.if_else(pc.equal(lengths, 1), pc.subtract(ends, 1), None)
        column = pa.chunked_array([pc.list_flatten(column.combine_chunks()).take(places)])
    if pa.types.is_nested(column.type):
        msg = f"{origin}: expected texts or numbers under label, got {column.type}"
        raise BadLabels(f"{msg}; write one of its fields as a column of its own")
    return column


def labelled_tables(sources: Sequence[Source]) -> Iterator[str]:
    """Yield the URIs of Parquet files with labels.

    Raises:
        BadLabels: the images that accuracy is measured on are files, or have no such column.
    """
    for source in sources:
        is_evaluated = source is sources[-1]
        if is_evaluated and source.kind == "images":
            msg = f"--labels column: {source.uri} holds image files; use --labels folders or a file"
            raise BadLabels(msg)
        for uri in source.tables():
            names = read_schema(uri).names
            if "label" in names:
                yield uri
            elif is_evaluated:
                msg = (
                    f"--labels column: expected a column label in {redact(uri)}, "
                    f"got {', '.join(names)}; rename the column, or leave --labels out"
                )
                raise BadLabels(msg)
