"""A workspace that was moved or copied: its database names files by their full paths.

MLflow knows no other ones. So whoever opens the database of a workspace first sees to it that it
names the files that lie beside it.
"""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_WHERE = "select artifact_location from experiments where name = ?"
_PATIENCE = 20.0  # seconds, while another process writes


def follow(database: Path, experiment: str, here: str) -> None:
    """Let a database name the files beside it, if it names them elsewhere.

    One that cannot be read or written is left to MLflow, whose words say more.

    Args:
        database: Of a workspace.
        experiment: Whose files are the workspace's.
        here: URI of the folder of its files.
    """
    with suppress(sqlite3.Error, OSError):
        for there in _locations(database, experiment):
            if there.startswith("file:///") and there != here and _was_moved(there, here):
                _rewrite(database, there, here)


def _locations(database: Path, experiment: str) -> list[str]:
    address = f"file:{quote(str(database))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        return [location for (location,) in connection.execute(_WHERE, [experiment])]


def _was_moved(there: str, here: str) -> bool:
    """Return whether files of the database were taken along from a folder, by moving or copying.

    They were not where the folder has no database: then it is a workspace that keeps its runs in
    this one, because a variable says so.
    """
    old, new = (Path(unquote(urlsplit(uri).path)) for uri in (there, here))
    if not old.exists():
        return True
    is_workspace = (old.parent / "mlflow.db").exists()
    return is_workspace and new.is_dir() and not old.samefile(new)


def _rewrite(database: Path, there: str, here: str) -> None:
    """Replace the folder in each path that begins with it, in one transaction."""
    with closing(sqlite3.connect(database, timeout=_PATIENCE)) as connection, connection:
        for table, column in _COLUMNS:
            connection.execute(
                f"update {table} set {column} = :here || substr({column}, :length) "  # noqa: S608
                f"where {column} = :there or substr({column}, 1, :length) = :there || '/'",
                {"here": here, "there": there, "length": len(there) + 1},
            )
