"""True labels image by image: by folders, by a column of the images' Parquet, or by a file."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from tasks.images.parquet import image_column, read_columns, read_schema, resolve
from tasks.images.sources import Source
from tasks.pool.label_file import LabelFile, origin_of, read_label_file
from tasks.pool.names import folders_of
from tasks.pool.parquet_labels import read_labels
from tasks.pool.splits import below_split
from tasks.pool.true_labels import list_sources
from tasks.refs import ImagesRef
from tasks.specs import COLUMN, FOLDERS, PoolSpec
from tasks.storage.layout import SPLIT_FOLDERS
from tasks.storage.manifest import iter_tables, read_manifest
from tasks.storage.sql import insert, temporary_database

LABELLED = pa.schema([("image_id", pa.string()), ("split", pa.string()), ("label", pa.string())])
_GIVEN = pa.schema([("uri", pa.string()), ("label", pa.string())])
_COLUMNS = ("image_id", "uri", "name", "split")
_BATCH = 65536

_JOINED = """
with one as (
    select uri, arg_min(label, rowid) as label from labels where label is not null group by uri
)
select image_id, split, label from images left join one using (uri)
order by image_id, images.rowid
"""
# A label may name an image by its content.
_OF_FILE = """
insert into labels select key, label from given join found using (path) order by ordinal;
insert into labels select uri, label from given anti join found using (path)
join images on path = image_id order by ordinal;
"""


def iter_given(
    images: ImagesRef,
    spec: PoolSpec,
    classes: Sequence[str],
    sources: Sequence[Source] | None = None,
) -> Iterator[pa.Table]:
    """Yield (image_id, split, label) of all images by id, copies included; null without a label.

    Args:
        images: The images.
        spec: With labels.
        classes: The class names.
        sources: The images and the test images; listed by default where labels are a column.
    """
    if spec.labels == FOLDERS:
        manifest = read_manifest(images.uri)
        is_split = bool(manifest and manifest.facts.get(SPLIT_FOLDERS))
        for table in iter_tables(images.uri, _COLUMNS):
            names = below_split(table["name"]) if is_split else table["name"]
            yield table.select(["image_id", "split"]).append_column("label", folders_of(names))
    else:
        yield from _iter_joined(images, spec, classes, sources)


def _iter_joined(
    images: ImagesRef, spec: PoolSpec, classes: Sequence[str], sources: Sequence[Source] | None
) -> Iterator[pa.Table]:
    """Join images and labels on disk."""
    with temporary_database() as database:
        database.execute("create table images (image_id text, uri text, name text, split text)")
        database.execute("create table labels (uri text, label text)")
        for table in iter_tables(images.uri, _COLUMNS):
            insert(database, "images", table)
        if spec.labels == COLUMN:
            for table in _iter_column(list_sources(spec) if sources is None else sources):
                insert(database, "labels", table)
        else:
            located = iter_tables(images.uri, ["uri", "name"])
            given = read_label_file(spec, classes)
            file = LabelFile(database, given, classes, origin=origin_of(spec))
            file.match((table["uri"], table["name"]) for table in located)
            file.check_conflicts()
            database.execute(_OF_FILE)
        for batch in database.sql(_JOINED).to_arrow_reader(_BATCH):
            yield pa.Table.from_batches([batch]).cast(LABELLED)


def _iter_column(sources: Sequence[Source]) -> Iterator[pa.Table]:
    """Yield (uri, label) of the rows of Parquet files that have labels."""
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
