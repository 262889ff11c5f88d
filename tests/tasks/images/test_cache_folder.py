"""The folder of a run's pixel cache: private, bounded, and gone when nobody uses it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.images import cache_folder
from tasks.images.cache_folder import CacheFolder, CacheUnusable, default_bound

ONE_MORE = (  # a process that holds a folder until its input ends
    "import sys\n"
    "from pathlib import Path\n"
    "from tasks.images.cache_folder import CacheFolder\n"
    "folder = CacheFolder(Path(sys.argv[1]), max_bytes=10**6)\n"
    "print('here', flush=True)\n"
    "sys.stdin.read()\n"
)


def holder(path: Path) -> subprocess.Popen[str]:
    """Start a process that uses the folder, and return it once it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", ONE_MORE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def is_gone_soon(path: Path) -> bool:
    for _ in range(1000):
        if not path.exists():
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / f"{cache_folder.PREFIX}test"


def test_nobody_else_may_look_into_it(place: Path) -> None:
    folder = CacheFolder(place, max_bytes=1)
    os.close(folder.open("file", os.O_RDWR | os.O_CREAT))
    assert place.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}


def test_a_link_or_an_open_folder_is_not_used(place: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    place.symlink_to(elsewhere)
    with pytest.raises(CacheUnusable, match="this user's alone"):
        CacheFolder(place)
    assert not list(elsewhere.iterdir())
    place.unlink()
    place.mkdir(mode=0o755)
    with pytest.raises(CacheUnusable, match="this user's alone"):
        CacheFolder(place)


def test_a_file_that_is_a_link_is_not_followed(place: Path, tmp_path: Path) -> None:
    folder = CacheFolder(place, max_bytes=1)
    (place / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        folder.open("link", os.O_RDWR | os.O_CREAT)
    assert not (tmp_path / "target").exists()


def test_all_processes_together_keep_to_the_bound_of_the_first(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_folder, "RESERVED_AT_ONCE", 40)
    monkeypatch.setattr(cache_folder, "SHARES", 1)
    one, two = CacheFolder(place, max_bytes=100), CacheFolder(place, max_bytes=10**9)
    assert two.max_bytes == 100
    assert [one.reserve(10), two.reserve(10), one.reserve(10)] == [40, 40, 20]
    assert two.reserve(1) == 0


def test_the_bound_is_a_quarter_of_the_free_disk_or_32_gib(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, bound in ((8 * 2**30, 2 * 2**30), (2**50, 32 * 2**30)):
        monkeypatch.setattr(
            cache_folder.shutil, "disk_usage", lambda _, free=free: type("", (), {"free": free})
        )
        assert default_bound(place) == bound


def test_a_claim_keeps_other_processes_out_until_it_is_given_up_or_its_process_dies(
    place: Path,
) -> None:
    code = ONE_MORE.replace("print(", "assert folder.try_claim(7)\nprint(")
    command = [sys.executable, "-c", code, str(place)]
    pipe = subprocess.PIPE
    other = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "here\n"
    folder = CacheFolder(place)
    assert folder.try_claim(8)
    assert not folder.try_claim(7)
    kill(other)
    assert folder.try_claim(7)
    folder.give_up(7)


def test_it_stays_while_one_process_lives_and_is_removed_after_the_last(place: Path) -> None:
    one, two = holder(place), holder(place)
    kill(one)  # who made it
    time.sleep(0.1)
    assert (place / cache_folder.ALIVE).exists()
    kill(two)
    assert is_gone_soon(place)


def test_what_nobody_holds_is_removed_by_the_next_run(place: Path, tmp_path: Path) -> None:
    used = holder(tmp_path / f"{cache_folder.PREFIX}used")
    left = tmp_path / f"{cache_folder.PREFIX}left"
    left.mkdir(mode=0o700)
    for name in (cache_folder.ALIVE, "abc.pixels"):
        (left / name).touch(mode=0o600)
    CacheFolder(place, max_bytes=1)
    assert not left.exists()
    assert (tmp_path / f"{cache_folder.PREFIX}used").exists()
    kill(used)
