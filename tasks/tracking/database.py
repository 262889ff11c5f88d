"""The database of the runs in a workspace: made whole, and looked at before MLflow opens it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import uuid4

from filelock import FileLock

from tasks.specs import InputError
from tasks.tracking.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
_TABLES = "select name from sqlite_master where type = 'table'"
_ADVICE = "If it is no database of MLflow, move it away; another is made then"


def check_database(uri: str) -> None:
    """Refuse what is in the place of a database and is none; anything else is for MLflow to say.

    MLflow itself would try for minutes to open it.

    Raises:
        InputError: says what is there.
    """
    path = path_of(uri)
    if path is None or not path.exists():
        return
    if not path.is_file():
        raise unreadable(uri, "it is no file")
    try:
        _tables(path)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN:
            raise unreadable(uri, str(error)) from error
    except sqlite3.DatabaseError as error:
        raise unreadable(uri, str(error)) from error


def make_database(uri: str, client: "type[MlflowClient]") -> None:
    """Make a new SQLite database whole, beside its place, and put it there.

    Any number of processes may do so at the same time, and one that is killed meanwhile leaves
    nothing that the next would take for a database.
    """
    path = path_of(uri)
    if path is None or _has_tables(path):
        return
    with lock_of(path):
        if _has_tables(path):
            return
        for leftover in path.parent.glob(f"{path.name}*.new*"):  # and its journal
            leftover.unlink(missing_ok=True)
        # A name of its own: MLflow keeps the connections of one that failed.
        beside = path.with_name(f"{path.name}.{uuid4().hex}.new")
        client(f"{SQLITE}{beside}").search_experiments(max_results=1)
        beside.replace(path)


def lock_of(path: Path) -> FileLock:
    """Return the lock of a database, which one process has at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f"{path.name}.lock"))


def path_of(uri: str) -> Path | None:
    """Return the file of an SQLite database; None for a server, or where options follow."""
    if not uri.startswith(SQLITE) or "?" in uri:
        return None
    return Path(uri.removeprefix(SQLITE))


def unreadable(uri: str, reason: str) -> InputError:
    """Return what to say of a database that cannot be read; of a reason, the first line."""
    first, name = redact(reason.splitlines()[0]), redact(uri)
    if "database is locked" in first:
        return InputError(
            f"another process is at work on the database {name}, and does not let go of it; wait "
            "until it has ended, and give the same command again"
        )
    return InputError(f"MLflow cannot read the database {name} ({first}). {_ADVICE}")


def _has_tables(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    try:
        return bool(_tables(path))
    except sqlite3.Error:  # another process writes, or only its owner may: something is there
        return True


def _tables(path: Path) -> list[str]:
    """Return the names of the tables; what a process that was killed left half done is undone."""
    address = f"file:{quote(str(path))}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=0)) as connection:
        return [name for (name,) in connection.execute(_TABLES)]
