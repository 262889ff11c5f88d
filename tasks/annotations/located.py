"""Which image a path means: the one rule for labels, answers and the oracle.

A path means the image that has it as URI or as name below the images' folder, letter for letter;
else the one that has it in another spelling (`paths.normal`); else the one with which it shares an
end that no other image and no other path has, the file name alone or with folders before it; else
the one that was uploaded to Label Studio under this name; else, for a name without extension, the
one that only adds an extension. What then may mean several images means none.

DuckDB holds paths and images on disk, so their number is bounded by the disk.
"""

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pyarrow as pa

from tasks.annotations.paths import bare, normal, stem, stored, uploaded
from tasks.storage.sql import insert

_AT_ONCE = 65536
_MOST_FOLDERS = 64

_TABLES = """
create table located_images (key text, uri text, name text);
create table given_paths (path text);
create table found (path text, key text);
create table several (path text);
create table image_spellings (key text, name text, folded_name text, folded_uri text);
create table path_spellings (path text, name text, folded_name text);
"""
_EXACT = """
select path, key from open_paths join located_images on path = uri
union select path, key from open_paths join located_images i on path = i.name
"""
_SPELLED = """
select path, key from open_paths join path_spellings using (path)
join image_spellings using ({column})
"""
_SETTLE = """
create or replace temp table hits as {hits};
insert into found select path, min(key) from hits group by path having count(distinct key) = 1;
insert into several select path from hits group by path having count(distinct key) > 1;
delete from open_paths where path in (select path from hits);
"""
_LOOK = """
create or replace table looking as from open_paths;
create or replace table path_parts as
select path, folded_name, string_split(folded_name, '/') as parts from path_spellings;
create or replace table image_parts as
select key, string_split(folded_uri, '/') as parts from image_spellings;
"""
# Paths and images by their last `depth` parts; of images those that something is looked for among.
_ENDS = """
create or replace table path_ends as
select *, array_to_string(parts[-$depth:], '/') as ending from path_parts
where len(parts) >= $depth;
create or replace table image_ends as
select *, array_to_string(parts[-$depth:], '/') as ending from image_parts
where len(parts) >= $depth;
delete from image_ends
where ending not in (select ending from path_ends semi join looking using (path));
create or replace table ends as
select ending, num_paths, num_images, key
from (select ending, count(distinct folded_name) as num_paths from path_ends group by ending)
join (
    select ending, count(distinct key) as num_images, min(key) as key
    from image_ends group by ending
) using (ending);
create or replace table looked as
select path, parts, key, num_paths = 1 and num_images = 1 as is_one
from path_ends semi join looking using (path) join ends using (ending);
"""
_DECIDE = """
insert into found select path, key from looked where is_one;
insert into several select path from looked where not is_one and len(parts) = $depth;
create or replace table looking as
select path from looked where not is_one and len(parts) > $depth;
create or replace table image_parts as select key, parts from image_ends;
"""
_DECIDED = "delete from open_paths where path in (select path from found union from several)"
_MADE = """
with paths as (select path, made from made_paths),
images as (select key, made from made_images),
pairs as (select path, key, made from paths join images using (made) semi join open_paths
    using (path)),
counted as (select *, count(distinct path) over (partition by made) as num_paths from pairs)
select path, key from counted
union select path, 'one of several' || path from counted where num_paths > 1
"""


class Located:
    """Images by where they are, and the paths that may mean them."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        """Create the tables `found` (path, key) and `several` (path), which `match` fills."""
        self._database = database
        database.execute(_TABLES)

    def add_images(self, keys: Any, uris: Any, names: Any) -> None:
        """Add images: what identifies them, their URIs, and their names below their folder."""
        insert(
            self._database, "located_images", pa.table([keys, uris, names], ["key", "uri", "name"])
        )

    def add_paths(self, paths: Any) -> None:
        """Add paths as they are given; nulls and repeated ones do not count."""
        insert(self._database, "given_paths", pa.table([paths], ["path"]))

    def match(self) -> None:
        """Find the image of each path, by one spelling after the other."""
        paths = "select distinct path from given_paths where path is not null"
        self._database.execute(f"create table open_paths as {paths}")
        self._settle(_EXACT)
        if not self._count("open_paths"):
            return
        self._spell()
        self._settle(_SPELLED.format(column="name"))
        self._settle(_SPELLED.format(column="folded_name"))
        self._match_ends()
        self._match_made(uploaded, stored)
        self._match_made(bare, stem)

    def found(self) -> dict[str, str]:
        """Return the keys of all paths that mean one image."""
        return dict(self._database.execute("from found").fetchall())

    def ambiguous(self) -> set[str]:
        """Return the paths that may mean several images."""
        return {row[0] for row in self._database.execute("from several").fetchall()}

    def _settle(self, hits: str) -> None:
        """Take the paths that a query finds out of the open ones."""
        self._database.execute(_SETTLE.format(hits=hits))

    def _spell(self) -> None:
        """Write images and paths in one spelling, with and without letter case."""
        for keys, uris, names in self._batches("select key, uri, name from located_images"):
            spelled = [normal(name) for name in names]
            folded = [[text.casefold() for text in texts] for texts in (spelled, map(normal, uris))]
            insert(
                self._database,
                "image_spellings",
                _texts(key=keys, name=spelled, a=folded[0], b=folded[1]),
            )
        paths = "select distinct path from given_paths where path is not null"
        for (given,) in self._batches(paths):
            spelled = [normal(path) for path in given]
            folded_names = [text.casefold() for text in spelled]
            insert(
                self._database, "path_spellings", _texts(path=given, name=spelled, a=folded_names)
            )

    def _match_ends(self) -> None:
        """Compare the last part of paths, then the last two, until one image is left or none."""
        self._database.execute(_LOOK)
        for depth in range(1, _MOST_FOLDERS):
            if not self._count("looking"):
                break
            for statements in (_ENDS, _DECIDE):
                self._database.execute(statements.replace("$depth", str(depth)))
        self._database.execute(_DECIDED)

    def _match_made(
        self, of_path: Callable[[str], str | None], of_image: Callable[[str], str]
    ) -> None:
        """Compare what two functions make of the spellings of paths and images."""
        rows = self._batches("select path, folded_name from path_spellings")
        made = [(path, of_path(name)) for batch in rows for path, name in zip(*batch, strict=True)]
        kept = [(path, name) for path, name in made if name]
        if not kept:
            return
        for table in ("made_paths (path text, made text)", "made_images (key text, made text)"):
            self._database.execute(f"create or replace table {table}")
        insert(self._database, "made_paths", _texts(a=[p for p, _ in kept], b=[m for _, m in kept]))
        for keys, uris in self._batches("select key, folded_uri from image_spellings"):
            insert(self._database, "made_images", _texts(a=keys, b=list(map(of_image, uris))))
        self._settle(_MADE)

    def _batches(self, query: str) -> Iterator[list[list[str]]]:
        table = self._database.sql(query).to_arrow_table()
        for batch in table.to_batches(max_chunksize=_AT_ONCE):
            yield [column.to_pylist() for column in batch.columns]

    def _count(self, table: str) -> int:
        rows = self._database.execute(f"select count(*) from {table}").fetchall()  # noqa: S608
        return int(rows[0][0])


def _texts(**columns: list[str]) -> pa.Table:
    return pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items()})
