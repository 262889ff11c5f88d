"""All scanned images in one table on disk: who repeats whom, which label belongs to which.

DuckDB holds the rows in a temporary file and sorts and joins out of memory, so the number of
images is bounded by the disk. Values reach SQL as tables and parameters, never as text.
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

# A test image ranks before every pool image, so that of equal ones the pool's is the duplicate
# and nothing of the test set is trained on.
_IMAGES = """
create table images as
with good as (
    select *, ordinal + if(split = 'test', 0, 1::bigint << 60) as rank
    from scan where reason is null
),
firsts as (
    select image_id, arg_min(uri, rank) as first_uri, min(rank) as first_rank
    from good group by image_id having count(*) > 1
)
select ordinal, image_id, uri, name, width, height, bytes, split,
       label as given_label, null::varchar as label,
       if(rank > first_rank, first_uri, null) as duplicate_of
from good left join firsts using (image_id)
"""
_FOLDER = "update images set label = list_extract(string_split(name, '/'), -2)"
_OF_COLUMN = "update images set label = given_label"
_OF_FILE = (
    "update images set label = given.label from given where given.uri = images.name",
    "update images set label = given.label from given where given.uri = images.uri",
)
_UNKNOWN = "update images set label = null where label not in (select name from classes)"
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
        """Return how often each reason put a file in quarantine."""
        query = "select reason, count(*) from scan where reason is not null group by 1"
        return dict(self._database.sql(query).fetchall())

    def find_duplicates(self) -> None:
        """Make the table of good images, each with the first image of equal content."""
        self._database.execute(_IMAGES)

    def set_labels(self, labels: str | None, classes: Sequence[str]) -> None:
        """Give images the labels that were asked for: 'column', 'folders', a file, or none."""
        if labels is None:
            return
        if labels in (COLUMN, FOLDERS):
            self._database.execute(_OF_COLUMN if labels == COLUMN else _FOLDER)
        else:
            self._add_label_file(labels)
            for statement in _OF_FILE:
                self._database.execute(statement)
        self._insert("classes", pa.table({"name": pa.array(classes, pa.string())}))
        self._database.execute(_UNKNOWN)

    def counts(self) -> dict[str, int]:
        """Return the number of images by kind, and of those that carry labels."""
        relation = self._database.sql(_COUNTS)
        return dict(zip(relation.columns, relation.fetchall()[0], strict=True))

    def images(self, rows: int) -> Iterator[pa.Table]:
        """Yield the good images in the order of the listing, `rows` at a time."""
        columns = ", ".join(IMAGES.names)
        return self._tables(f"select {columns} from images order by ordinal", IMAGES, rows)  # noqa: S608

    def quarantine(self, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
        """Yield the bad images in the order of the listing, `rows` at a time."""
        return self._tables(_QUARANTINE, schema, rows)

    def _tables(self, query: str, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
        empty = True
        for batch in self._database.sql(query).to_arrow_reader(rows):
            yield pa.Table.from_batches([batch]).cast(schema)
            empty = False
        if empty:  # so that readers find the columns
            yield schema.empty_table()

    def _add_label_file(self, uri: str) -> None:
        self._database.execute("create table raw (uri varchar, label varchar)")
        for table in iter_label_file(uri):
            self._insert("raw", table)
        given = "select uri, min(label) as label, count(distinct label) as n from raw group by uri"
        self._database.execute(f"create table given as {given}")
        query = "select uri from given where n > 1 order by uri limit 20"
        if torn := [uri for (uri,) in self._database.sql(query).fetchall()]:
            msg = f"--labels {redact(uri)}: {list_names(torn)} given two different labels; keep one"
            raise BadLabels(msg)

    def _insert(self, name: str, table: pa.Table) -> None:
        self._database.register("incoming", table)
        verb = f"create table if not exists {name} as select * from incoming limit 0"  # noqa: S608
        self._database.execute(verb)
        self._database.execute(f"insert into {name} select * from incoming")  # noqa: S608
        self._database.unregister("incoming")


@contextmanager
def catalog(parts: Iterable[pa.Table]) -> Iterator[Catalog]:
    """Load the parts of a scan, one in memory at a time, for the time of the block."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "autoinstall_known_extensions": "false",  # or DuckDB asks the network for them
        "autoload_known_extensions": "false",
    }
    with tempfile.TemporaryDirectory(prefix="coft-pool-") as folder:
        database = duckdb.connect(str(Path(folder) / "scan.duckdb"), config=settings)
        try:
            made = Catalog(database)
            made.add_scan(PART.empty_table())
            for part in parts:
                made.add_scan(part)
            yield made
        finally:
            database.close()


def has_unreadable(part: pa.Table) -> bool:
    """Say whether a part notes a failure that may have passed by now."""
    return UNREADABLE in part["reason"].to_pylist()
