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
    Face datasets); a negative number means no label.

    Args:
        uri: The file, with a column `label`.
        first: Number of the first row.
        rows: Number of rows, all by default.
    """
    column = read_columns(uri, ["label"], first=first, rows=rows)["label"]
    if pa.types.is_floating(column.type) and pc.all(pc.equal(column, pc.floor(column))).as_py():
        column = column.cast(pa.int64())  # where some are missing, pandas writes 1.0 for 1
    if not pa.types.is_integer(column.type):
        return column.cast(pa.string())
    names = names_of_schema(uri, read_schema(uri))
    has_label = pc.greater_equal(column, 0)
    if not names:
        return pc.if_else(has_label, column.cast(pa.string()), pa.scalar(None, pa.string()))
    numbers = pc.if_else(pc.and_(has_label, pc.less(column, len(names))), column, None)
    return pa.chunked_array([pa.array(names).take(numbers.combine_chunks())])


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
