"""Parquet files with features of any modality: which they are, and what their columns have to be.

| column | | |
|---|---|---|
| `embedding` | lists of numbers | of one length within a modality |
| `label` | text | class name; null where nobody knows it |
| `modality` | text | may be left out where all rows are of one modality |
| `split` | text | `train` or `test`; may be left out: all rows are to learn from |
| `sample_id` | text | for people and answers; may be left out |
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from tasks.images.listing import Entry, NoImages, list_files
from tasks.images.parquet import read_schema
from tasks.images.sources import TABLE_SUFFIXES
from tasks.pool.classes import BadClassNames, names_of_schema
from tasks.specs import InputError
from tasks.storage.uris import redact

EMBEDDING, LABEL, MODALITY, SPLIT, SAMPLE = "embedding", "label", "modality", "split", "sample_id"


class BadFeatures(InputError):
    """Files of features that cannot be used as they are."""


def find_files(uri: str) -> tuple[str, ...]:
    """Return the Parquet files of a URI, a file, folder, glob or bucket, by name.

    Raises:
        BadFeatures: there are none, or one has not the columns of features.
    """
    found: list[Entry] = []
    try:
        list_files(uri, found.append)
    except NoImages as error:
        msg = f"{redact(uri)}: expected a Parquet file, or a folder or glob of them, got no such "
        raise BadFeatures(f"{msg}path; check it") from error
    names = [entry.uri for entry in found]
    tables = tuple(sorted(name for name in names if name.lower().endswith(tuple(TABLE_SUFFIXES))))
    if not tables:
        raise BadFeatures(f"{redact(uri)}: expected Parquet files of features, found none")
    for table in tables:
        check_schema(table, read_schema(table))
    return tables


def check_all(uri: str, modalities: Sequence[str]) -> None:
    """Refuse files that cannot hold several modalities.

    Raises:
        BadFeatures: there is no column that says which row is of which.
    """
    for table in find_files(uri):
        if len(modalities) > 1 and MODALITY not in read_schema(table).names:
            msg = f"{redact(table)}: expected a column {MODALITY} beside {EMBEDDING}, since "
            raise BadFeatures(f"{msg}{', '.join(modalities)} are to be told apart")


def is_features(uri: str) -> bool:
    """Return whether a URI is a Parquet file with a column of features."""
    if not uri.lower().endswith(tuple(TABLE_SUFFIXES)):
        return False
    return EMBEDDING in read_schema(uri).names


def check_schema(uri: str, schema: pa.Schema) -> None:
    """Refuse a file without features, or with other types than those above.

    Raises:
        BadFeatures: says which column, and what it should be.
    """
    kinds = dict(zip(schema.names, schema.types, strict=True))
    kind = kinds.get(EMBEDDING)
    if kind is None or not _is_numbers(kind):
        got = f"{kind}" if kind is not None else f"the columns {', '.join(schema.names)}"
        msg = f"{redact(uri)}: expected lists of numbers in a column {EMBEDDING}, got {got}"
        raise BadFeatures(f"{msg}; write one list for each sample")
    for name in (LABEL, MODALITY, SPLIT, SAMPLE):
        if name in kinds and not _is_text(kinds[name]):
            msg = f"{redact(uri)}: expected texts in column {name}, got {kinds[name]}"
            raise BadFeatures(f"{msg}; write them as texts")


def classes_of(uris: Sequence[str]) -> tuple[str, ...]:
    """Return the class names in the metadata of the first file that has them."""
    for uri in uris:
        with suppress(BadClassNames):  # the labels say what there is
            if names := names_of_schema(uri, read_schema(uri)):
                return tuple(names)
    return ()


def _is_numbers(kind: Any) -> bool:
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(check(kind) for check in is_list):
        return False
    return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
    return any(check(kind) for check in checks)
