"""All listed images in one table on disk: what is new, and each image once, in the order of ids.

DuckDB holds the rows in a temporary file and joins and sorts out of memory, so the number of images
is bounded by the disk. Values enter SQL as tables and parameters, never as text.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from tasks.images.quarantine import TOO_LARGE
from tasks.pool.entries import ENTRIES
from tasks.pool.scan import LISTED, WORK
from tasks.storage.sql import insert, parquet, reach, temporary_database
from tasks.storage.store import Store

IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("name", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("split", pa.string()),
        ("duplicate_of", pa.string()),
    ]
)
_BATCH = 65536

_ADD = """
insert into entries
select substr(sha256(concat_ws(chr(10), origin, size, version)), 1, 32), uri, name, split, bytes
from incoming
"""
_NEW = """
select key, min(uri) as uri, min(bytes) as bytes
from entries anti join known using (key)
where bytes is null or bytes <= $max_bytes group by key order by min(entries.rowid)
"""
# A file that was read has all facts; one that is too large was not read; a failure may pass.
_SCAN = """
create table scan as
with listed as (
    select * from known union all by name select * from not_kept
),
facts as (select distinct on (key) * from listed),
joined as (
    select entries.rowid as ordinal, uri, name, split, image_id, width, height,
        coalesce(facts.bytes, entries.bytes) as bytes, reason, detail
    from entries left join facts using (key)
)
select * replace (
    case when reason is not null then reason
        when bytes > $max_bytes then $too_large
        when width::bigint * height > $max_pixels then 'too-many-pixels' end as reason,
    case when reason is not null then detail
        when bytes > $max_bytes then bytes || ' bytes, at most ' || $max_bytes || ' are read'
        when width::bigint * height > $max_pixels
        then width || ' x ' || height || ' pixels, at most ' || $max_pixels || ' are decoded'
    end as detail)
from joined
"""
# Test images come first, so that of equal images the one of the pool is the duplicate and no test
# image is trained on.
_IMAGES = """
select image_id, uri, name, width, height, bytes, split from scan where reason is null
order by image_id, split <> 'test', ordinal
"""
_QUARANTINE = """
select uri, 'pool' as stage, reason, detail, bytes
from scan where reason is not null order by ordinal
"""


class Catalog:
    """The images of a run as tables of DuckDB: `entries`, and once they were read, `scan`."""

    def __init__(self, database: duckdb.DuckDBPyConnection, listing: Store) -> None:
        self._database = database
        self._listing = listing
        columns = "(key text, uri text, name text, split text, bytes bigint)"
        database.execute(f"create table entries {columns}")
        self._insert("not_kept", LISTED.empty_table())
        reach(database, listing.folder)

    def add_entries(self, table: pa.Table) -> None:
        """Add images (schema `ENTRIES`) behind those that are there."""
        self._database.register("incoming", table.cast(ENTRIES))
        self._database.execute(_ADD)
        self._database.unregister("incoming")

    def num_entries(self) -> int:
        """Return how many images were added."""
        rows = self._database.execute("select count(*) from entries").fetchall()
        return int(rows[0][0])

    def new_images(self, max_bytes: int) -> Iterator[pa.Table]:
        """Yield the images (schema `WORK`) that are not in the listing, in their order."""
        self._see_listing()
        return self._tables(_NEW, WORK, {"max_bytes": max_bytes})

    def add_not_kept(self, table: pa.Table) -> None:
        """Add images (schema `LISTED`) that could not be read, and are not in the listing."""
        self._insert("not_kept", table)

    def join_listing(self, *, max_bytes: int, max_pixels: int) -> None:
        """Create the table `scan`: each image with what reading it once told, within the limits."""
        self._see_listing()
        limits = {"max_bytes": max_bytes, "max_pixels": max_pixels, "too_large": TOO_LARGE}
        self._database.execute(_SCAN, limits)

    def reasons(self) -> dict[str, int]:
        """Return the number of quarantined files by reason."""
        query = "select reason, count(*) from scan where reason is not null group by 1"
        return dict(self._database.sql(query).fetchall())

    def images(self) -> Iterator[pa.Table]:
        """Yield the usable images by id, equal ones behind each other, test images first."""
        columns = [name for name in IMAGES.names if name != "duplicate_of"]
        return self._tables(_IMAGES, pa.schema([IMAGES.field(name) for name in columns]))

    def quarantine(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the quarantined files in the order of the listing."""
        return self._tables(_QUARANTINE, schema)

    def _tables(
        self, query: str, schema: pa.Schema, values: Mapping[str, int] | None = None
    ) -> Iterator[pa.Table]:
        for batch in self._database.sql(query, params=values or {}).to_arrow_reader(_BATCH):
            yield pa.Table.from_batches([batch]).cast(schema)

    def _see_listing(self) -> None:
        """Let `known` be the rows of the listing as it is now."""
        if uris := self._listing.uris():
            self._database.execute(f"create or replace view known as from {parquet(uris)}")
        else:
            self._insert("nothing", LISTED.empty_table())
            self._database.execute("create or replace view known as from nothing")

    def _insert(self, name: str, table: pa.Table) -> None:
        self._database.register("incoming", table)
        create = f"create table if not exists {name} as select * from incoming limit 0"  # noqa: S608
        self._database.execute(create)
        insert(self._database, name, table)


@contextmanager
def catalog(listing: Store) -> Iterator[Catalog]:
    """Open a temporary catalog beside a listing."""
    with temporary_database() as database:
        yield Catalog(database, listing)
