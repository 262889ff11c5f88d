"""What a disk refuses, told in a sentence: no room, no permission, a name that is too long.

A full disk shows in many ways: the error of a write, that of a database in the words of SQL, that
of a server whose log finds no room. So the causes of an error are looked at, and then the disks
that the process writes to.
"""

import errno
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tasks.storage.uris import is_local, local_path, redact

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM_WORDS = re.compile(r"no space left|dis[ck] is full|quota exceeded", re.IGNORECASE)
_NEXT_TO_NOTHING = 2**16  # bytes; with less whatever fails has failed for that
_REFUSED = {
    errno.EACCES: "permission denied; name another place, or ask for the permission",
    errno.EPERM: "permission denied; name another place, or ask for the permission",
    errno.EROFS: "its disk can only be read; name another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "links lead in a circle; correct them",
}

_places: set[str] = set()  # that this process writes to, beside those of its environment


def writes_to(place: str) -> None:
    """Remember a folder that this process will write to, to look at when a disk is full."""
    if is_local(place):
        _places.add(str(local_path(place)))


def is_out_of_room(error: BaseException) -> bool:
    """Return whether a full disk, or a quota, is among the causes of an error."""
    return any(
        getattr(cause, "errno", None) in _NO_ROOM or _NO_ROOM_WORDS.search(str(cause))
        for cause in _causes(error)
    )


def is_any_full() -> bool:
    """Return whether a disk that the process writes to is full: whatever failed, failed for that.

    A server that finds no room for its database answers with an error of its own.
    """
    return min(map(_free, _written())) < _NEXT_TO_NOTHING


def out_of_room(error: BaseException) -> str:
    """Return what to tell about an error that a full disk has caused."""
    files = (getattr(cause, "filename", None) for cause in _causes(error))
    named = [os.fsdecode(file) for file in files if isinstance(file, str | bytes)]
    place = Path(named[0] if named else min(_written(), key=_free)).absolute()
    mount = next(folder for folder in (place, *place.parents) if os.path.ismount(folder))
    return f"no space left on {mount} for {place}; finished work is kept; run again with more room"


def refused(error: OSError) -> str | None:
    """Return what to tell about a path that may not be used; None for another error."""
    if error.filename is None or error.errno not in _REFUSED:
        return None
    name = redact(os.fsdecode(error.filename))
    return f"{name[:200]}: {_REFUSED[error.errno]}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting += [e for e in (current.__context__, current.__cause__) if e is not None]


def _written() -> Iterator[str]:
    """Yield what the process writes to: workspaces, temporary files, and what libraries keep."""
    yield from sorted(_places)
    with suppress(OSError):  # no room for the file that it tries
        yield os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    yield os.environ.get("PREFECT_HOME") or str(Path.home())


def _free(place: str) -> float:
    """Return the free bytes of a disk; of a file system that has none, such as /proc, no bound."""
    path = Path(place).absolute()
    usage = shutil.disk_usage(next(p for p in (path, *path.parents) if os.path.isdir(p)))  # noqa: PTH112
    return usage.free if usage.total else math.inf
