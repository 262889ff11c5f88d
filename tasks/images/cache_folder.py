"""The folder of a run's pixel cache on this machine: who may use it, how large it grows, its end.

All processes of a run on a machine share one folder, which belongs to the user alone. Each holds a
shared lock on a file in it while it lives. When the last one is gone, however it ended, a process
that waited for that removes the folder; if that one was stopped too, the next run does.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import ray

PREFIX = f"coft-pixels-{os.getuid()}-"
ALIVE, BOUND, CLAIMS = "alive", "bound", "claims"
SHARE_OF_FREE_DISK = 4
MOST = 32 * 2**30
RESERVED_AT_ONCE = 16 * 2**20  # by a process that writes ...
SHARES = 64  # ... or such a part of a smaller bound
_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC
_WATCHER = """
import fcntl, os, shutil, sys
if os.fork():
    os._exit(0)
os.chdir("/")
with open(sys.argv[1]) as alive:
    fcntl.flock(alive, fcntl.LOCK_EX)
    shutil.rmtree(os.path.dirname(sys.argv[1]), ignore_errors=True)
"""


class CacheUnusable(OSError):
    """The folder cannot be used: it belongs to somebody else, or its disk has no locks."""


def folder_of_run() -> Path:
    """Return where the run that this process works for keeps pixels on this machine.

    Under Ray all workers of one driver are one run, anywhere else each process is.
    """
    run = str(os.getpid())
    if ray.is_initialized():
        context = ray.get_runtime_context()
        run = f"{context.gcs_address}/{context.get_job_id()}"
    name = hashlib.sha256(run.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"{PREFIX}{name}"


def default_bound(folder: Path) -> int:
    """Return a quarter of the disk that is free where the folder is, at most 32 GiB."""
    return min(MOST, shutil.disk_usage(folder).free // SHARE_OF_FREE_DISK)


class CacheFolder:
    """A folder that is there while any process uses it, with a bound on the bytes in it.

    Args:
        path: The folder; made if absent.
        max_bytes: The bound, if this process is the first one; by default see `default_bound`.

    Raises:
        CacheUnusable: the folder is not this user's own, or a link.
        OSError: it cannot be made or locked.
    """

    def __init__(self, path: Path, *, max_bytes: int | None = None) -> None:
        self.path = path
        _remove_abandoned(path)
        self._alive = _enter(path)  # closed, and with it unlocked, when the process ends
        self._bound = self.open(BOUND, os.O_RDWR | os.O_CREAT)
        self._threads = Lock()
        self._claims = self.open(CLAIMS, os.O_RDWR | os.O_CREAT)
        with self._locked():
            if not os.fstat(self._bound).st_size:
                self._write_bound(default_bound(path) if max_bytes is None else max_bytes, 0)

    @property
    def max_bytes(self) -> int:
        """Return the bound that the first process set."""
        return self._read_bound()[0]

    def open(self, name: str, flags: int) -> int:
        """Return the descriptor of a file in the folder, which must not be a link."""
        return os.open(self.path / name, flags | _SAFELY, 0o600)

    def reserve(self, at_least: int) -> int:
        """Return how many more bytes this process may write, 0 when there is no room for these."""
        with self._locked():
            bound, reserved = self._read_bound()
            at_once = min(RESERVED_AT_ONCE, bound // SHARES)
            share = min(bound - reserved, max(at_least, at_once))
            if share < at_least:
                return 0
            self._write_bound(bound, reserved + share)
            return share

    def try_claim(self, number: int) -> bool:
        """Claim a number among the processes, unless another one has it; its end frees it too."""
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def give_up(self, number: int) -> None:
        """Free a number that this process claimed."""
        fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, number)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:  # which share the file's lock
            fcntl.flock(self._bound, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._bound, fcntl.LOCK_UN)

    def _read_bound(self) -> tuple[int, int]:
        bound, reserved = os.pread(self._bound, 64, 0).split()
        return int(bound), int(reserved)

    def _write_bound(self, bound: int, reserved: int) -> None:
        os.pwrite(self._bound, f"{bound:20} {reserved:20}".encode(), 0)


def _enter(path: Path) -> int:
    """Make the folder if it is absent, and return a descriptor that holds it."""
    while True:
        try:
            path.mkdir(mode=0o700)
            is_new = True
        except FileExistsError:
            is_new = False
        _check_owner(path)
        try:
            alive = os.open(path / ALIVE, os.O_RDWR | os.O_CREAT | _SAFELY, 0o600)
        except FileNotFoundError:  # removed a moment ago
            continue
        fcntl.flock(alive, fcntl.LOCK_SH)
        if _is_same(alive, path / ALIVE):
            if is_new:
                _watch(path)
            return alive
        os.close(alive)


def _check_owner(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    private = not stat.S_IMODE(status.st_mode) & 0o077
    if not (stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and private):
        msg = f"{path}: expected a folder that is this user's alone"
        raise CacheUnusable(msg)


def _is_same(descriptor: int, path: Path) -> bool:
    """Return whether a name still means the file that was opened under it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _watch(path: Path) -> None:
    """Let a process of its own remove the folder when nobody holds it any more."""
    command = [sys.executable, "-I", "-S", "-c", _WATCHER, str(path / ALIVE)]
    nothing = subprocess.DEVNULL
    subprocess.run(  # noqa: S603  # this interpreter, on a path of ours
        command, check=False, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    )


def _remove_abandoned(path: Path) -> None:
    """Remove the folders beside this one that no process holds."""
    for other in path.parent.glob(f"{PREFIX}*"):
        if other == path:
            continue
        try:
            _check_owner(other)
            alive = os.open(other / ALIVE, os.O_RDWR | _SAFELY)
        except OSError:
            continue
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(alive)
