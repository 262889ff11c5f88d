"""True labels image by image: by folders, by a column of the images' Parquet, or by a file."""

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tasks.images.parquet import image_column, read_columns, read_schema, resolve
from tasks.pool.classes import list_names
from tasks.pool.true_labels import (
    COLUMN,
    FOLDERS,
    BadLabels,
    iter_label_file,
    list_sources,
    read_labels,
)
from tasks.refs import ImagesRef
from tasks.specs import PoolSpec
from tasks.storage.manifest import iter_tables
from tasks.storage.sql import temporary_database
from tasks.storage.uris import redact

LABELLED = pa.schema([("image_id", pa.string()), ("split", pa.string()), ("label", pa.string())])
_GIVEN = pa.schema([("uri", pa.string()), ("label", pa.string())])
_COLUMNS = ("image_id", "uri", "name", "split")
_BATCH = 65536
_FOLDER = r"(?s)^(?:.*/)?(?P<folder>[^/]+)/[^/]*$"

_JOINED = """
with one as (
    select uri, arg_min(label, rowid) as label from given where label is not null group by uri
)
select image_id, split, coalesce(by_uri.label, by_name.label) as label
from images
left join one as by_uri on by_uri.uri = images.uri
left join one as by_name on by_name.uri = images.name
order by image_id, images.rowid
"""
_CONFLICTS = """
select uri from given group by uri having count(distinct label) > 1 order by uri limit 20
"""


def iter_given(images: ImagesRef, spec: PoolSpec) -> Iterator[pa.Table]:
    """Yield (image_id, split, label) of all images by id, copies included; null without a label."""
    if spec.labels == FOLDERS:
        for table in iter_tables(images.uri, _COLUMNS):
            labels = pc.struct_field(pc.extract_regex(table["name"], _FOLDER), "folder")
            yield table.select(["image_id", "split"]).append_column("label", labels)
    else:
        yield from _iter_joined(images, spec)


def _iter_joined(images: ImagesRef, spec: PoolSpec) -> Iterator[pa.Table]:
    """Join images and labels on disk, by URI or else by name."""
    with temporary_database() as database:
        database.execute("create table images (image_id text, uri text, name text, split text)")
        database.execute("create table given (uri text, label text)")
        for table in iter_tables(images.uri, _COLUMNS):
            _insert(database, "images", table)
        if spec.labels == COLUMN:
            for table in _iter_column(spec):
                _insert(database, "given", table)
        else:
            for table in iter_label_file(str(spec.labels)):
                _insert(database, "given", table)
            _check_conflicts(database, str(spec.labels))
        for batch in database.sql(_JOINED).to_arrow_reader(_BATCH):
            yield pa.Table.from_batches([batch]).cast(LABELLED)


def _iter_column(spec: PoolSpec) -> Iterator[pa.Table]:
    """Yield (uri, label) of the rows of Parquet files that have labels."""
    sources = list_sources(spec)
    for uri in (uri for source in reversed(sources) for uri in source.tables()):
        schema = read_schema(uri)
        if "label" not in schema.names:
            continue
        labels = read_labels(uri)
        if image_column(uri, schema) == "uri":
            names = read_columns(uri, ["uri"])["uri"].cast(pa.string()).to_pylist()
            uris = [resolve(name or "", uri) for name in names]
        else:
            uris = [f"{uri}#{row}" for row in range(len(labels))]
        yield pa.table([pa.array(uris, pa.string()), labels], schema=_GIVEN)


def _check_conflicts(database: duckdb.DuckDBPyConnection, uri: str) -> None:
    if conflicting := [row[0] for row in database.execute(_CONFLICTS).fetchall()]:
        msg = f"--labels {redact(uri)}: {list_names(conflicting)} given two different labels; "
        raise BadLabels(msg + "keep one")


def _insert(database: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    database.register("incoming", table)
    database.execute(f"insert into {name} select * from incoming")  # noqa: S608
    database.unregister("incoming")
