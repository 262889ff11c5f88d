"""A file of labels for evaluation beside the images that it is about, in a database on disk."""

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tasks.annotations.located import Located
from tasks.annotations.reading import iter_answers, load
from tasks.annotations.schema import BadAnswers
from tasks.annotations.spelling import Names
from tasks.pool.classes import list_names
from tasks.pool.understood import EXAMPLES, LabelCounts
from tasks.specs import InputError, PoolSpec
from tasks.storage.files import exists
from tasks.storage.sql import insert
from tasks.storage.uris import is_local, redact

# 64 hex digits name an image by its content, which is not known yet.
_COUNTS = """
create or replace table judged as
select given.*, coalesce(located_images.name, path) as name,
    case when key is null and not regexp_full_match(path, '[0-9a-f]{64}') then 'unmatched'
        when label is null then 'unknown' else 'matched' end as verdict
from given left join found using (path) left join located_images using (key)
"""
_EXAMPLES = """
select path, name, written from judged where verdict = $verdict
order by path = name, ordinal limit $limit
"""
_CONFLICTS = """
select min(path) from given join found using (path) where label is not null
group by key having count(distinct label) > 1 order by 1 limit 20
"""


class BadLabels(InputError):
    """The labels for evaluation are absent, unreadable, or not about these images and classes."""


class LabelFile:
    """The labels in a file: tables `given` (ordinal, path, label, written), and those of `Located`.

    `label` is the class that the label means, null where it means none; `written` is the label as
    it stands in the file.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        tables: Iterable[pa.Table],
        classes: Sequence[str],
        *,
        origin: str,
    ) -> None:
        """Read the labels (schema `ANSWERS`); `origin` is what messages call their file."""
        self.database = database
        self._origin = origin
        self._located = Located(database)
        database.execute("create sequence ordinals")
        columns = "ordinal bigint default nextval('ordinals'), path text, label text, written text"
        database.execute(f"create table given ({columns})")
        names = Names(classes)
        for table in tables:
            self._add(table, names)

    def match(self, images: Iterable[tuple[Any, Any]]) -> None:
        """Find the images of the labels, by their URIs and names, a table of both at a time."""
        for uris, names in images:
            self._located.add_images(uris, uris, names)
        self._located.match()

    def check_conflicts(self) -> None:
        """Refuse labels of which two of one image differ.

        Raises:
            BadLabels: says which images.
        """
        if conflicting := [row[0] for row in self.database.execute(_CONFLICTS).fetchall()]:
            msg = f"{self._origin}: {list_names(conflicting)} given two different labels; keep one"
            raise BadLabels(msg)

    def counts(self) -> LabelCounts:
        """Return how many labels name an image and a class; an id is taken for that of an image."""
        unique = "delete from located_images where rowid not in (select min(rowid) from "
        self.database.execute(f"{unique}located_images group by key)")
        self.database.execute(_COUNTS)
        query = "select verdict, count(*) from judged group by 1"
        counts = dict(self.database.execute(query).fetchall())
        numbers = {f"num_{verdict}": number for verdict, number in counts.items()}
        examples = {verdict: self._examples(verdict) for verdict in counts}
        return LabelCounts(origin=self._origin, **numbers, **examples)

    def _add(self, table: pa.Table, names: Names) -> None:
        found = names.find_all(table["label"])
        paths = pc.coalesce(table["uri"], table["image_id"])
        incoming = pa.table([paths, found, table["label"]], ["path", "label", "written"])
        incoming = incoming.filter(incoming["path"].is_valid())
        insert(self.database, "given (path, label, written)", incoming)
        self._located.add_paths(incoming["path"])

    def _examples(self, verdict: str) -> tuple[str, ...]:
        values = {"verdict": verdict, "limit": EXAMPLES}
        rows = self.database.execute(_EXAMPLES, values).fetchall()
        return tuple(f"{p if p == name else f'{p} = {name}'}: {text}" for p, name, text in rows)


def origin_of(spec: PoolSpec) -> str:
    """Return what messages call the labels of a run."""
    return f"--labels {redact(str(spec.labels))}"


def read_label_file(spec: PoolSpec, classes: Sequence[str]) -> Iterable[pa.Table]:
    """Yield the labels of a file (schema `ANSWERS`), without skips and the like.

    Raises:
        BadLabels: it is absent, or cannot be read as labels.
    """
    uri, origin = str(spec.labels), origin_of(spec)
    if is_local(uri) and not exists(uri):
        msg = f"{origin}: expected 'folders', 'column' or a file, got no such file"
        raise BadLabels(msg)
    try:
        for table in iter_answers(load(uri), origin, classes, spec.label_columns):
            yield table.filter(pc.equal(table["kind"], "label"))
    except BadAnswers as error:
        raise BadLabels(str(error)) from error
