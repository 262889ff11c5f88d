"""DuckDB over files of a workspace: offline, with names that cannot be mistaken for patterns."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from tasks.storage.uris import PATTERN, is_local, open_filesystem

Settings = dict[str, str | bool | int | float | list[str]]

OFFLINE: Settings = {  # or DuckDB asks the network for extensions
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_MEMORY = "512MB"  # of a temporary database; the rest is on disk


def literal(text: str) -> str:
    """Return a text as an SQL literal; names enter statements in no other way."""
    return "'" + text.replace("'", "''") + "'"


def escape(uri: str) -> str:
    """Return the pattern that matches one file, also if its name has characters of a pattern."""
    return PATTERN.sub(lambda match: f"[{match[0]}]", uri)


def parquet(uris: Iterable[str]) -> str:
    """Return the SQL of a table of some Parquet files, one at least."""
    names = ", ".join(literal(escape(uri)) for uri in uris)
    return f"read_parquet([{names}], hive_partitioning = false)"


def reach(connection: duckdb.DuckDBPyConnection, uri: str) -> None:
    """Let a connection read files of the bucket that a URI lies in; a disk it reads anyway."""
    if not is_local(uri):
        filesystem, _ = open_filesystem(uri)
        connection.register_filesystem(filesystem)


def insert(connection: duckdb.DuckDBPyConnection, target: str, rows: pa.Table) -> None:
    """Add rows to a table; the target may name columns behind it, as in `t (a, b)`."""
    connection.register("incoming", rows)
    connection.execute(f"insert into {target} select * from incoming")  # noqa: S608
    connection.unregister("incoming")


@contextmanager
def temporary_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database that joins and sorts on disk; it is gone after the block."""
    with tempfile.TemporaryDirectory(prefix="coft-pool-") as folder:
        settings = {**OFFLINE, "memory_limit": _MEMORY}
        database = duckdb.connect(str(Path(folder) / "tables.duckdb"), config=settings)
        try:
            yield database
        finally:
            database.close()
