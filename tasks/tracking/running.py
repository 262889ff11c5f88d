"""Whether a run that MLflow has as running still has a process.

A process holds a lock on a file for each of its runs, in the folder `running` beside the database.
The kernel frees it with the process, however that ends. Between machines not every disk knows
locks, so a process also touches its files every minute, and a run of another machine counts as dead
only when its file is free and was silent for a quarter of an hour. Machines without a common disk
have a common server: there the same sign is a tag of the run. Of a run without file and sign
nothing is known.
"""

import functools
import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

FOLDER = "running"
SIGN_EVERY, SILENT_AFTER = 60.0, 900.0  # seconds

_held: dict[Path, FileLock] = {}
_signs: dict[Path, Callable[[], object]] = {}  # given beside the touch of a file


class Owner(NamedTuple):
    """The file of a run, and the machine that MLflow says it is on."""

    file: Path
    machine: str


def machine() -> str:
    """Return the name of this machine, for people too."""
    return platform.node()


def hold(owner: Owner, sign: Callable[[], object] | None = None) -> bool:
    """Take a run for this process; return False where another one is at work on it.

    Args:
        owner: Of the run.
        sign: Called every minute from now on, for machines that do not see the file.
    """
    if owner.file in _held:
        return True
    owner.file.parent.mkdir(parents=True, exist_ok=True)
    lock = _take(owner)
    if lock is None:
        return False
    _held[owner.file] = lock
    if sign is not None:
        _signs[owner.file] = sign
    os.utime(owner.file)
    _start_signs()
    return True


def let_go(file: Path) -> None:
    """Forget a run that has ended, and that MLflow has as ended."""
    _signs.pop(file, None)
    if lock := _held.pop(file, None):
        file.unlink(missing_ok=True)
        lock.release()


def is_dead(owner: Owner) -> bool:
    """Return whether a run's process has ended; it is held from then on, until `let_go`."""
    return owner.file not in _held and owner.file.exists() and hold(owner)


def _take(owner: Owner) -> FileLock | None:
    silent = _seconds_since_a_sign(owner.file)
    lock = FileLock(owner.file, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    if owner.machine != machine() and silent < SILENT_AFTER:
        lock.release()
        return None
    return lock


def _seconds_since_a_sign(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


@functools.cache
def _start_signs() -> None:
    threading.Thread(target=_give_signs, name="coft-signs", daemon=True).start()


def _give_signs() -> None:
    while True:
        time.sleep(SIGN_EVERY)
        for file in list(_held):
            with suppress(OSError):
                os.utime(file)
            with suppress(Exception):  # a server that does not answer now may do so in a minute
                _signs.get(file, time.time)()
