"""Tables that may not fit in memory: rows go to a file without a name, which is mapped."""

import tempfile
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

AT_ONCE = 65536  # rows in memory


class Spill:
    """Rows on their way to a table whose memory is a file; its space is freed with the table."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = tempfile.NamedTemporaryFile(prefix="coft-listing-")  # noqa: SIM115  # until `table`
        self._writer = pa.ipc.new_file(self._file, schema)

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows."""
        self._writer.write_batch(rows)

    def table(self) -> pa.Table:
        """Return all rows, once."""
        self._writer.close()
        self._file.flush()
        with self._file:
            return pa.ipc.open_file(pa.memory_map(self._file.name)).read_all()


def spill(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """Return rows as a table whose memory is a file."""
    rows = Spill(schema)
    for batch in batches:
        rows.add(batch)
    return rows.table()


def sort_spilled(table: pa.Table, column: str) -> pa.Table:
    """Return a table in the order of a column, as `spill` does; eight bytes a row are in memory."""
    order = pc.sort_indices(table, sort_keys=[(column, "ascending")])
    starts = range(0, len(order), AT_ONCE)
    parts = (table.take(order.slice(start, AT_ONCE)).combine_chunks() for start in starts)
    return spill((batch for part in parts for batch in part.to_batches()), table.schema)
