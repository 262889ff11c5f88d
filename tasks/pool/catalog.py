"""All scanned images in one table on disk, with duplicates and labels.

DuckDB holds the rows in a temporary file and sorts and joins out of memory, so the number of
images is bounded by the disk. Values enter SQL as tables and parameters, never as text.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from tasks.images.quarantine import UNREADABLE
from tasks.pool.classes import list_names
from tasks.pool.scan import PART
from tasks.pool.true_labels import COLUMN, FOLDERS, BadLabels, iter_label_file
from tasks.storage.uris import redact

IMAGES = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("duplicate_of", pa.string()),
    ]
)
_MEMORY = "512MB"

# Test images rank before pool images, so that of equal images the one of the pool is the duplicate
# and no test image is trained on.
_IMAGES = """
create table images as
with usable as (
    select *, ordinal + if(split = 'test', 0, 1::bigint << 60) as rank
    from scan where reason is null
),
firsts as (
    select image_id, arg_min(uri, rank) as first_uri, min(rank) as first_rank
    from usable group by image_id having count(*) > 1
)
select ordinal, image_id, uri, name, width, height, bytes, split,
       label as given_label, null::varchar as label,
       if(rank > first_rank, first_uri, null) as duplicate_of
from usable left join firsts using (image_id)
"""
_LABELS_OF_FOLDERS = "update images set label = list_extract(string_split(name, '/'), -2)"
_LABELS_OF_COLUMN = "update images set label = given_label"
_LABELS_OF_FILE = (
    "update images set label = given.label from given where given.uri = images.name",
    "update images set label = given.label from given where given.uri = images.uri",
)
_DROP_UNKNOWN_LABELS = (
    "update images set label = null where label not in (select name from classes)"
)
_QUARANTINE = """
select uri, 'pool' as stage, reason, detail, bytes
from scan where reason is not null order by ordinal
"""
_COUNTS = """
select count(*) filter (where duplicate_of is null and split = 'pool') as num_pool,
       count(*) filter (where duplicate_of is null and split = 'test') as num_test,
       count(*) filter (where duplicate_of is not null) as num_duplicates,
       count(*) as num_images,
       count(label) filter (where duplicate_of is null and split = 'pool') as num_pool_labels,
       count(label) filter (where duplicate_of is null and split = 'test') as num_test_labels
from images
"""


class Catalog:
    """The images of a scan as a DuckDB table."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._database = database

    def add_scan(self, table: pa.Table) -> None:
        """Add one part of the scan."""
        self._insert("scan", table)

    def reasons(self) -> dict[str, int]:
        """Return the number of quarantined files by reason."""
        query = "select reason, count(*) from scan where reason is not null group by 1"
        return dict(self._database.sql(query).fetchall())

    def find_duplicates(self) -> None:
        """Create the table of usable images, each with the first image of equal content."""
        self._database.execute(_IMAGES)

    def set_labels(self, labels: str | None, classes: Sequence[str]) -> None:
        """Set the labels of images.

        Args:
            labels: `column`, `folders`, the URI of a file, or None for no labels.
            classes: Class names; other labels are dropped.
        """
        if labels is None:
            return
        if labels in (COLUMN, FOLDERS):
            self._database.execute(_LABELS_OF_COLUMN if labels == COLUMN else _LABELS_OF_FOLDERS)
        else:
            self._add_label_file(labels)
            for statement in _LABELS_OF_FILE:
                self._database.execute(statement)
        self._insert("classes", pa.table({"name": pa.array(classes, pa.string())}))
        self._database.execute(_DROP_UNKNOWN_LABELS)

    def counts(self) -> dict[str, int]:
        """Return the numbers of images, of duplicates, and of labelled images, by split."""
        relation = self._database.sql(_COUNTS)
        return dict(zip(relation.columns, relation.fetchall()[0], strict=True))

    def images(self, rows: int) -> Iterator[pa.Table]:
        """Yield the usable images in the order of the listing, `rows` at a time."""
        columns = ", ".join(IMAGES.names)
        return self._tables(f"select {columns} from images order by ordinal", IMAGES, rows)  # noqa: S608

    def quarantine(self, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
        """Yield the quarantined files in the order of the listing, `rows` at a time."""
        return self._tables(_QUARANTINE, schema, rows)

    def _tables(self, query: str, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
        is_empty = True
        for batch in self._database.sql(query).to_arrow_reader(rows):
            yield pa.Table.from_batches([batch]).cast(schema)
            is_empty = False
        if is_empty:  # so that readers find the columns
            yield schema.empty_table()

    def _add_label_file(self, uri: str) -> None:
        self._database.execute("create table raw (uri varchar, label varchar)")
        for table in iter_label_file(uri):
            self._insert("raw", table)
        given = "select uri, min(label) as label, count(distinct label) as n from raw group by uri"
        self._database.execute(f"create table given as {given}")
        query = "select uri from given where n > 1 order by uri limit 20"
        if conflicting := [uri for (uri,) in self._database.sql(query).fetchall()]:
            msg = f"--labels {redact(uri)}: {list_names(conflicting)} given two different labels; "
            raise BadLabels(msg + "keep one")

    def _insert(self, name: str, table: pa.Table) -> None:
        self._database.register("incoming", table)
        create = f"create table if not exists {name} as select * from incoming limit 0"  # noqa: S608
        self._database.execute(create)
        self._database.execute(f"insert into {name} select * from incoming")  # noqa: S608
        self._database.unregister("incoming")


@contextmanager
def catalog(parts: Iterable[pa.Table]) -> Iterator[Catalog]:
    """Open a temporary catalog with the parts of a scan, which are loaded one at a time."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "autoinstall_known_extensions": "false",  # or DuckDB asks the network for them
        "autoload_known_extensions": "false",
    }
    with tempfile.TemporaryDirectory(prefix="coft-pool-") as folder:
        database = duckdb.connect(str(Path(folder) / "scan.duckdb"), config=settings)
        try:
            scanned = Catalog(database)
            scanned.add_scan(PART.empty_table())
            for part in parts:
                scanned.add_scan(part)
            yield scanned
        finally:
            database.close()


def has_unreadable(part: pa.Table) -> bool:
    """Return whether a part of a scan has a failure that another attempt may not have."""
    return UNREADABLE in part["reason"].to_pylist()
