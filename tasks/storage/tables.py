"""Parquet files with facts about their inputs, and readers that check these facts."""

import json
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.storage.digests import SCHEMA_VERSION, ShardMismatch, code_version
from tasks.storage.files import open_read, open_write
from tasks.storage.uris import redact

_FACTS = b"coft"  # key of our JSON in the Parquet schema metadata
_ROW_GROUP = 8192  # rows; 16 MB of 512 float32 values


def write_table(uri: str, table: pa.Table, facts: Mapping[str, str] | None = None) -> None:
    """Write a table as zstd Parquet with `facts` in its metadata, atomically.

    Args:
        uri: Target; parent folders are created.
        table: The rows. Only texts are dictionary-encoded, because vectors would get larger.
        facts: Facts about the inputs (digest, backbone, ...), for `read_table(expect=...)`.
    """
    append_tables(uri, table.schema, [table], facts)


def append_tables(
    uri: str, schema: pa.Schema, tables: Iterable[pa.Table], facts: Mapping[str, str] | None = None
) -> int:
    """Write tables into one file, as `write_table` does, one of them in memory; return the rows."""
    header = {"schema_version": SCHEMA_VERSION, "code_version": code_version(), **(facts or {})}
    schema = schema.with_metadata({**(schema.metadata or {}), _FACTS: json.dumps(header).encode()})
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    rows = 0
    with (
        open_write(uri) as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=texts) as writer,
    ):
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=_ROW_GROUP)
            rows += table.num_rows
    return rows


def read_table(
    uri: str, columns: Sequence[str] | None = None, *, expect: Mapping[str, str] | None = None
) -> pa.Table:
    """Return the rows of a file that `write_table` wrote.

    Args:
        uri: The file.
        columns: Names of the columns to read, all by default.
        expect: Facts that the file must carry with these values.

    Raises:
        ShardMismatch: the schema version or an expected fact differs; names the field.
    """
    with open_read(uri) as file, pq.ParquetFile(file) as parquet:
        _check_facts(uri, parquet.schema_arrow.metadata or {}, expect or {})
        return parquet.read(columns=None if columns is None else list(columns))


def _check_facts(uri: str, header: Mapping[bytes, bytes], expect: Mapping[str, str]) -> None:
    facts = json.loads(header.get(_FACTS, b"{}"))
    for name, expected in {"schema_version": SCHEMA_VERSION, **expect}.items():
        if (value := facts.get(name)) != expected:
            msg = (
                f"{redact(uri)}: expected {name} {expected!r}, got {value!r}; "
                "delete the file's folder and run the command again"
            )
            raise ShardMismatch(msg)


def read_facts(uri: str) -> dict[str, str]:
    """Return the facts that `write_table` put into a file, from its footer."""
    with open_read(uri) as file, pq.ParquetFile(file) as parquet:
        facts: dict[str, str] = json.loads((parquet.schema_arrow.metadata or {})[_FACTS])
        return facts


def count_rows(uri: str) -> int:
    """Return the number of rows of a Parquet file from its footer."""
    with open_read(uri) as file, pq.ParquetFile(file) as parquet:
        return int(parquet.metadata.num_rows)
