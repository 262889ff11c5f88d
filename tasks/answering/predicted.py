"""Predictions to ask about: those of a workspace, or those of a file, by the same SQL."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from tasks.query.contents import choose
from tasks.query.sandbox import as_input_errors, run_sql
from tasks.specs import InputError
from tasks.storage.digests import fingerprint
from tasks.storage.files import content_hash, exists, names_in, reaching
from tasks.storage.schemas import LABELS, PREDICTIONS
from tasks.storage.sql import parquet, reach, temporary_database
from tasks.storage.uris import absolute, join, redact

NEEDED = ("image_id", "uri", "label", "confidence")


class Predicted:
    """Views `predictions` and `labels`, and the names of the classes.

    Args:
        workspace: Folder or URI.
        predictions: A Parquet file of predictions, or a folder of them; by default those that the
            workspace has of its newest images.
        pool: Digest of these images, or its beginning; without `predictions`.

    Raises:
        InputError: there are none.
    """

    def __init__(self, workspace: str, predictions: str | None, pool: str | None) -> None:
        self._workspace, self._pool = workspace, pool
        self._files = None if predictions is None else _files(predictions)

    def rows(self, sql: str) -> pa.Table:
        """Return the rows of a SELECT."""
        if self._files is None:
            return run_sql(self._workspace, sql, pool=self._pool)
        with as_input_errors(), temporary_database() as database:
            reach(database, self._files[0])
            database.execute(f"CREATE VIEW predictions AS {_select(database, self._files)}")
            labels = LABELS.empty_table()
            database.register("labels", labels)
            return database.sql(sql).to_arrow_table()

    def digest(self) -> str:
        """Return a digest of what is predicted."""
        if self._files is not None:
            return fingerprint([content_hash(file) for file in self._files])
        predictions = choose(absolute(self._workspace), pool=self._pool).predictions
        return "" if predictions is None else predictions.digest

    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes; of a file those that it has somewhere."""
        if self._files is None:
            task = choose(absolute(self._workspace), pool=self._pool).task
            names = [] if task is None else task.manifest.facts.get("classes")
            if isinstance(names, list) and names:
                return tuple(str(name) for name in names)
        seen = "SELECT DISTINCT label FROM predictions UNION SELECT DISTINCT runner_up"
        found = self.rows(f"SELECT * FROM ({seen} FROM predictions) ORDER BY 1")  # noqa: S608
        return tuple(name for name in found.column(0).to_pylist() if name is not None)

    def need(self) -> None:
        """Check that there are predictions.

        Raises:
            InputError: says how to make some.
        """
        if not self.rows("SELECT 1 FROM predictions LIMIT 1").num_rows:
            raise InputError(
                "no predictions to ask about; make some with `coft adapt` or `coft predict` in "
                "this --workspace, or name a file of them with --from"
            )


def _files(predictions: str) -> list[str]:
    place = absolute(predictions)
    with reaching(place):
        inside = names_in(place)
        if tables := sorted(name for name in inside if name.endswith(".parquet")):
            return [join(place, name) for name in tables]
        if exists(place) and not inside:
            return [place]
    raise InputError(
        f"--from {redact(predictions)}: expected a Parquet file of predictions, or a folder of "
        "them, as `coft predict` writes it; found none there"
    )


def _select(database: duckdb.DuckDBPyConnection, files: Sequence[str]) -> str:
    """Return the SELECT of predictions; columns that a file leaves out are null.

    So are its probabilities: nothing in it says in which order their classes are.
    """
    table = parquet(files)
    has = set(database.sql(f"SELECT * FROM {table} LIMIT 0").columns)  # noqa: S608  # quoted
    has.discard("probabilities")
    if missing := [name for name in NEEDED if name not in has]:
        raise InputError(
            f"--from {redact(files[0])}: expected the columns {', '.join(NEEDED)}, found no "
            f"{' and no '.join(missing)}"
        )
    empty = database.from_arrow(PREDICTIONS.empty_table())
    types = dict(zip(empty.columns, empty.dtypes, strict=True))
    columns = [
        f"{name}::{kind} AS {name}" if name in has else f"NULL::{kind} AS {name}"
        for name, kind in types.items()
    ]
    return f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608  # names of our own schema
