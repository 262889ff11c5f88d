"""Room for the objects that Ray's processes share, where a container has next to none.

Ray takes a third of the memory, and falls back to a file of that size where `/dev/shm` is smaller.
coft passes calls and short answers between processes, so a little does.
"""

import os
import shutil
from pathlib import Path
from typing import Any

SHARED = Path("/dev/shm")  # noqa: S108  # a file system in memory
LEAST = 75 * 2**20  # of which Ray accepts no less
MOST = 2 * 2**30
USABLE = 0.9  # of what is free: others use it too


def store_options(temporary: str) -> dict[str, Any]:
    """Return the arguments of `ray.init` for the objects: how much memory, and where.

    Args:
        temporary: Folder of Ray's files, which has them where `/dev/shm` has no room.
    """
    room = int(free_bytes(SHARED) * USABLE)
    if room >= LEAST:
        return {"object_store_memory": min(room, MOST)}
    return {"object_store_memory": LEAST, "_plasma_directory": temporary}


def free_bytes(folder: Path) -> int:
    """Return what is free in a folder; 0 where nothing can be written."""
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        return 0
    return shutil.disk_usage(folder).free
