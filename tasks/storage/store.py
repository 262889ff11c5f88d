"""Rows by key that are computed once, whoever needs them: many writers, one row for each key.

A store is a folder of parts. Each is sorted by key and named by the keys that it holds, so that
whoever writes the same rows writes the same file. Rows of a key in two parts are equal, or as good
as equal, and readers take the first.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from tasks.storage.files import names_in
from tasks.storage.manifest import Part
from tasks.storage.ranges import span_of_keys
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join


@dataclass(frozen=True)
class Store:
    """A folder of rows by key.

    Attributes:
        folder: URI; it need not exist.
        key: Name of the column of keys: hex digits of a hash, so that they are spread evenly.
        facts: For the metadata of the parts.
    """

    folder: str
    key: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def uris(self) -> list[str]:
        """Return the parts that are there now, in one request."""
        names = sorted(names_in(self.folder))
        return [join(self.folder, name) for name in names if name.startswith("part-")]

    def add(self, rows: pa.Table) -> Part | None:
        """Write rows as one part, atomically; nothing without rows."""
        if not rows.num_rows:
            return None
        rows = rows.sort_by(self.key)
        keys = rows[self.key].combine_chunks()
        digest = hashlib.sha256("\n".join(keys.to_pylist()).encode()).hexdigest()
        name = span_of_keys(keys).file_name(digest)
        write_table(join(self.folder, name), rows, self.facts)
        return Part(name=name, rows=rows.num_rows)


def absent_keys(keys: pa.Array, uris: Iterable[str], key: str) -> pa.Array:
    """Return the keys that are in none of some parts."""
    for uri in uris:
        if not len(keys):
            break
        stored = read_table(uri, [key])[key].combine_chunks()
        keys = keys.filter(pc.invert(pc.is_in(keys, stored)))
    return keys


def read_keys(keys: pa.Array, uris: Sequence[str], key: str, columns: Sequence[str]) -> pa.Table:
    """Return the rows of some keys, in the order of the keys; keys without a row are left out.

    Args:
        keys: Distinct keys.
        uris: Parts, one at least.
        key: Name of their column.
        columns: What to read beside it.
    """
    names = list(dict.fromkeys((key, *columns)))
    found, wanted = list[pa.Table](), keys
    for uri in uris:
        table = read_table(uri, names).combine_chunks()
        rows = pc.index_in(wanted, table[key].combine_chunks())
        found.append(table.take(rows.drop_null()))
        wanted = wanted.filter(rows.is_null())
        if not len(wanted):
            break
    table = pa.concat_tables(found).combine_chunks()
    return table.take(pc.index_in(keys, table[key].combine_chunks()).drop_null())
