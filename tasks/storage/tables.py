"""Parquet files with facts about their inputs, and readers that check these facts."""

import json
from collections.abc import Mapping, Sequence

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
    header = {"schema_version": SCHEMA_VERSION, "code_version": code_version(), **(facts or {})}
    metadata = table.schema.metadata or {}
    table = table.replace_schema_metadata({**metadata, _FACTS: json.dumps(header).encode()})
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    with open_write(uri) as file:
        pq.write_table(
            table, file, compression="zstd", use_dictionary=texts, row_group_size=_ROW_GROUP
        )


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
