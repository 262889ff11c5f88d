"""A full disk is told from other errors, however it shows, and what may not be used is named."""

import errno
import os
import shutil
import sqlite3
from collections import namedtuple
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.storage import disk_errors
from tasks.storage.disk_errors import is_any_full, is_out_of_room, out_of_room, refused
from tasks.storage.files import open_write

FULL = Path("/dev/full")  # every write to it finds no room
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")

Usage = namedtuple("Usage", "total used free")


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause  # noqa: TRY301
    except BaseException as raised:  # noqa: BLE001
        return raised


def error_of_database() -> Exception:
    """Return what SQLite says when its file may not grow."""
    connection = sqlite3.connect(":memory:")
    connection.execute("pragma max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as error:
        connection.execute("create table t as select randomblob(100000) as x")
    return error.value


@needs_full
def test_writers_of_every_kind_say_that_the_disk_is_full() -> None:
    with pytest.raises(OSError) as plain, FULL.open("wb") as file:  # noqa: PT011, PT012
        file.write(b"x")
        file.flush()
    with pytest.raises(OSError) as arrow, FULL.open("wb", buffering=0) as file:  # noqa: PT011
        pq.write_table(pa.table({"x": [1]}), file)  # by its path it would be removed
    for error in (plain.value, arrow.value, error_of_database()):
        assert is_out_of_room(error), repr(error)
        assert is_out_of_room(caught(RuntimeError("a step failed"), error))


@pytest.mark.parametrize(
    "error",
    [ValueError("no such class"), OSError(errno.EACCES, "Permission denied"), KeyError("disk")],
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_room(error)


def test_the_sentence_says_where_and_what_to_do(tmp_path: Path) -> None:
    target = tmp_path / "embeddings" / "part.parquet"
    with pytest.raises(OSError) as error, open_write(str(target)):  # noqa: PT011
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = out_of_room(caught(RuntimeError("a step failed"), error.value))
    assert said.startswith("no space left on /")
    assert f"for {target}; finished work is kept; run again" in said


def test_a_quota_is_a_full_disk_too() -> None:
    assert is_out_of_room(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)))


def test_whatever_fails_on_a_full_disk_has_failed_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_errors.writes_to(str(tmp_path / "workspace"))
    usage = shutil.disk_usage
    assert not is_any_full()

    def full_here(path: Path) -> object:
        return Usage(100, 100, 0) if Path(path).is_relative_to(tmp_path) else usage(path)

    monkeypatch.setattr(disk_errors.shutil, "disk_usage", full_here)
    assert is_any_full()
    assert str(tmp_path / "workspace") in out_of_room(RuntimeError("Internal Server Error"))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP])
def test_what_may_not_be_used_is_named_in_one_line(number: int) -> None:
    said = refused(OSError(number, os.strerror(number), "/somewhere/" + "x" * 300))
    assert said is not None
    assert said.startswith("/somewhere/xxx")
    assert "\n" not in said
    assert len(said) < 300
    assert refused(OSError(number, os.strerror(number))) is None, "it would name nothing"
    assert refused(FileNotFoundError(errno.ENOENT, "No such file", "/somewhere")) is None
