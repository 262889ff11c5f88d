"""An archive unpacks to what was packed, in parts as well, and is the same whenever it is made."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from infra.bundle import archive

LIMIT = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a program, a link, a nested file and more bytes than a part holds."""
    made = tmp_path / "made"
    (made / "b").mkdir(parents=True)
    (made / "b" / "noise").write_bytes(os.urandom(5 * LIMIT))
    (made / "a.sh").write_text("#!/bin/sh\necho hello\n")
    (made / "a.sh").chmod(0o700)
    (made / "link").symlink_to("a.sh")
    return made


def pack(folder: Path, target: Path, *, limit: int | None = None) -> list[Path]:
    return archive.pack(folder, target, seconds=10**9, preset=0, limit=limit)


def unpack(parts: list[Path], folder: Path) -> None:
    whole = io.BytesIO(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(fileobj=whole) as packed:
        packed.extractall(folder, filter="data")


@pytest.mark.parametrize("limit", [None, LIMIT])
def test_what_was_packed_comes_out(folder: Path, tmp_path: Path, limit: int | None) -> None:
    unpack(pack(folder, tmp_path / "x.tar.xz", limit=limit), tmp_path / "out")
    out = tmp_path / "out" / "made"
    assert (out / "b" / "noise").read_bytes() == (folder / "b" / "noise").read_bytes()
    assert (out / "link").readlink() == Path("a.sh")
    assert os.access(out / "a.sh", os.X_OK)
    assert not os.access(out / "b" / "noise", os.X_OK)
    assert {path.stat().st_mtime for path in out.rglob("*")} == {10**9}


def test_parts_are_full_but_for_the_last_and_sort_in_order(folder: Path, tmp_path: Path) -> None:
    parts = pack(folder, tmp_path / "x.tar.xz", limit=LIMIT)
    sizes = [part.stat().st_size for part in parts]
    assert sizes[:-1] == [LIMIT] * (len(parts) - 1)
    assert len(parts) >= 5
    assert 0 < sizes[-1] <= LIMIT
    assert parts == sorted(parts)
    whole = pack(folder, tmp_path / "y.tar.xz")[0].read_bytes()
    assert b"".join(part.read_bytes() for part in parts) == whole


def test_the_same_files_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    (first,) = pack(folder, tmp_path / "x.tar.xz")
    for path in [folder / "b" / "noise", folder / "a.sh"]:
        os.utime(path, (1, 1))
        path.chmod(path.stat().st_mode | 0o020)  # who else may write it is nobody's business
    (second,) = pack(folder, tmp_path / "y.tar.xz")
    assert first.read_bytes() == second.read_bytes()


def test_sums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "x.part-00").write_bytes(b"hello")
    archive.write_sums([tmp_path / "x.part-00"], tmp_path / "x.sha256")
    expected = f"{hashlib.sha256(b'hello').hexdigest()}  x.part-00\n"
    assert (tmp_path / "x.sha256").read_text() == expected
