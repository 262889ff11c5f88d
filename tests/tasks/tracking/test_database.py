"""What lies in the place of the database of the runs, and is none, or was one."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tasks.doctor.servers import check_mlflow
from tasks.specs import InputError
from tasks.tracking.database import check_database
from tasks.tracking.store import connect, tracking_for


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a database that MLflow has made."""
    folder = tmp_path_factory.mktemp("whole")
    connect(tracking_for(str(folder)))
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def database(tmp_path: Path, whole: bytes) -> Iterator[Path]:
    path = tmp_path / "mlflow.db"
    path.write_bytes(whole)
    yield path
    connect.cache_clear()


def open_store(database: Path) -> list[str]:
    """Open the store of a workspace, and return the names of its experiments."""
    client = connect(tracking_for(str(database.parent)))
    return [experiment.name for experiment in client.search_experiments()]


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def cut(size: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[:size])


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut(100), "malformed"),
        (cut(4096), "malformed"),
        (cut(-4096), "malformed"),
        (lambda path: path.write_text("none " * 999), "file is not a database"),
        (replace_by_folder, "it is no file"),
    ],
)
def test_what_is_no_database_is_told_before_mlflow_is_loaded(
    database: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(database)
    with pytest.raises(InputError, match=f"{reason}.*move it away; another is made then"):
        check_database(f"sqlite:///{database}")
    assert check_mlflow(str(database.parent)).ok is False
    with pytest.raises(InputError, match=reason):
        open_store(database)


@pytest.mark.parametrize("table", ["runs", "experiments", "experiment_tags"])
def test_a_database_that_has_lost_a_table_is_told_in_a_sentence(
    database: Path, table: str, capfd: pytest.CaptureFixture[str]
) -> None:
    change(database, f"drop table {table}")
    with pytest.raises(InputError, match="move it away; another is made then") as caught:
        open_store(database)
    assert "SELECT" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_database_without_tables_is_made_anew(database: Path) -> None:
    """As a process leaves it that was killed in its first moment, before coft made them whole."""
    database.unlink()
    change(database, "pragma user_version = 1")
    assert database.stat().st_size > 0
    assert open_store(database) == ["Default"]
    assert [path.name for path in database.parent.glob("*.new*")] == []


def test_a_database_of_another_version_of_mlflow_is_not_touched(database: Path) -> None:
    change(database, "update alembic_version set version_num = '451aebb31d03'")
    before = database.read_bytes()
    with pytest.raises(InputError, match="mlflow db upgrade"):
        open_store(database)
    assert database.read_bytes() == before


def test_what_a_killed_process_left_in_its_journal_is_undone(database: Path) -> None:
    """The pages that it wrote are in the database; those that they replaced, in the journal."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("pragma cache_size = 1")
        connection.execute("begin")
        rows = [(f"{number} {'x' * 200}",) for number in range(300)]
        connection.executemany("insert into experiments (name) values (?)", rows)
        copies = {path: path.read_bytes() for path in database.parent.glob("mlflow.db*")}
        connection.execute("rollback")
    assert len(copies) == 2
    for path, content in copies.items():
        path.write_bytes(content)
    assert open_store(database) == ["Default"]


@pytest.mark.slow
def test_a_database_that_another_process_keeps_to_itself_is_not_to_be_moved(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("begin exclusive")
        started = time.monotonic()
        check_database(f"sqlite:///{database}")
        assert time.monotonic() - started < 4, "a moment is no reason to wait, or to refuse"
        with pytest.raises(InputError, match="another process is at work on the database"):
            open_store(database)
