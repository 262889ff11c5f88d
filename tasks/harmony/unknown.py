"""Rows of features whose class nobody knows: of any modality, which some of them may say."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.harmony.files import EMBEDDING, MODALITY, SAMPLE
from tasks.harmony.known import KnownState
from tasks.harmony.rows import BATCH
from tasks.storage.files import open_read
from tasks.storage.uris import redact

_LOOKED_AT = 256  # rows of a file before anything begins


@dataclass(frozen=True)
class RowGroup:
    """A part of a Parquet file.

    Attributes:
        uri: The file.
        number: Of the row group.
        first: Number of its first row in the file.
        rows: How many there are.
    """

    uri: str
    number: int
    first: int
    rows: int

    def tables(self) -> Iterator[pa.Table]:
        """Yield (sample_id, modality, embedding) of some rows at a time; each has an id."""
        with open_read(self.uri) as file, pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            columns = [name for name in (SAMPLE, MODALITY, EMBEDDING) if name in names]
            row = self.first
            for batch in parquet.iter_batches(BATCH, row_groups=[self.number], columns=columns):
                yield _with_ids(pa.Table.from_batches([batch]), self.uri, row)
                row += batch.num_rows


def row_groups(uri: str) -> list[RowGroup]:
    """Return the parts of a file, from its footer."""
    with open_read(uri) as file, pq.ParquetFile(file) as parquet:
        sizes = [
            parquet.metadata.row_group(n).num_rows for n in range(parquet.metadata.num_row_groups)
        ]
    starts = np.cumsum([0, *sizes]).tolist()
    return [RowGroup(uri, n, starts[n], rows) for n, rows in enumerate(sizes) if rows]


def check_beginning(uri: str, known: KnownState, asked: str | None) -> None:
    """Refuse a file of which the first rows are of no modality that was learned.

    Raises:
        InputError: says why.
    """
    for group in row_groups(uri)[:1]:
        for table in islice(group.tables(), 1):
            list(alike(table.slice(0, _LOOKED_AT), known, asked))


def alike(
    table: pa.Table, known: KnownState, asked: str | None
) -> Iterator[tuple[np.ndarray, str | None]]:
    """Yield places of rows that have one width and one modality, and that, None where it is open.

    Args:
        table: Rows of a `RowGroup`.
        known: What was learned.
        asked: The modality of all rows, whatever they say.

    Raises:
        InputError: the modality of a row, or its width, was not learned.
    """
    widths = pc.fill_null(pc.list_value_length(table[EMBEDDING]), 0).to_numpy()
    says, names = _modalities(table, known, asked)
    for width, said in np.unique(np.stack([widths, says], axis=1), axis=0).tolist():
        places = np.flatnonzero((widths == width) & (says == said))
        if width:  # an empty row is told by who reads the features
            known.check_width(width, names[said], _sample(table, int(places[0])))
        yield places, names[said]


def _modalities(
    table: pa.Table, known: KnownState, asked: str | None
) -> tuple[np.ndarray, list[str | None]]:
    """Return a number for each row, and the modality for each number."""
    if asked is not None or MODALITY not in table.column_names:
        return np.zeros(table.num_rows, np.int64), [asked]
    said = (
        table[MODALITY].cast(pa.string()).combine_chunks().dictionary_encode(null_encoding="encode")
    )
    names = [
        None if not name else known.named(name, f"column {MODALITY}").name
        for name in said.dictionary.to_pylist()
    ]
    return said.indices.to_numpy().astype(np.int64), names


def _with_ids(table: pa.Table, uri: str, first: int) -> pa.Table:
    """Return the rows with an id each: their own, or the file's name and the row's number."""
    name = posixpath.basename(redact(uri))
    made = pa.array([f"{name}:{first + row}" for row in range(table.num_rows)], pa.string())
    if SAMPLE not in table.column_names:
        return table.append_column(SAMPLE, made)
    own = pc.coalesce(table[SAMPLE].cast(pa.string()), made)
    return table.set_column(table.column_names.index(SAMPLE), SAMPLE, own)


def _sample(table: pa.Table, row: int) -> str:
    return f"sample {table[SAMPLE][row].as_py()!r}"
