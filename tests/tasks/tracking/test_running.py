"""Whether a run has a process: of this machine, of another one, of none that is known."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.tracking import running
from tasks.tracking.running import Owner, hold, is_dead, let_go, machine

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, time
from pathlib import Path
from tasks.tracking.running import Owner, hold, machine

print(hold(Owner(Path(sys.argv[1]), machine())), flush=True)
time.sleep(60)
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "running" / "a-run"
    let_go(tmp_path / "running" / "a-run")


@pytest.fixture
def holder(file: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def test_a_run_is_dead_when_its_process_is(file: Path, holder: subprocess.Popen[str]) -> None:
    owner = Owner(file, machine())
    assert not is_dead(owner)
    assert not hold(owner)
    kill(holder)
    assert is_dead(owner)
    let_go(file)
    assert not file.exists()


def test_a_run_of_another_machine_is_dead_when_it_was_silent(
    file: Path, holder: subprocess.Popen[str]
) -> None:
    elsewhere = Owner(file, "elsewhere")
    kill(holder)
    assert not is_dead(elsewhere), "its lock may be one that this machine cannot see"
    then = time.time() - running.SILENT_AFTER - 1
    os.utime(file, (then, then))
    assert is_dead(elsewhere)


def test_nothing_is_known_of_a_run_without_a_file(file: Path) -> None:
    assert not is_dead(Owner(file, machine()))
    assert hold(Owner(file, machine()))
    assert not is_dead(Owner(file, machine())), "it is this process's own"


def test_who_is_at_work_gives_signs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SIGN_EVERY", 0.05)
    running._start_signs.cache_clear()
    hold(Owner(file, machine()))
    os.utime(file, (0, 0))
    deadline = time.monotonic() + 20
    while file.stat().st_mtime == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
