"""A home folder for libraries, where a person has none that can be written.

Prefect asks for one when it is imported, Ray, MLflow and matplotlib when they start; a container
that runs under any user's number, or a service, has none.
"""

import os
import stat
import tempfile
from pathlib import Path


def ensure() -> Path:
    """Return the home folder; set HOME to one among the temporary files if it is of no use.

    It is the same one each time, and belongs to the user alone.
    """
    if not os.environ.get("HOME"):
        os.environ.pop("HOME", None)  # of an empty one Python makes "/"
    try:
        home = Path.home()
    except RuntimeError:  # nobody has this user's number
        home = None
    if home is not None and _can_be_written(home):
        return home
    substitute = _substitute()
    os.environ["HOME"] = str(substitute)
    return substitute


def _can_be_written(folder: Path) -> bool:
    """Return whether files can be made in a folder; Prefect does not make one that is absent."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _substitute() -> Path:
    folder = Path(tempfile.gettempdir()) / f"coft-home-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if own and not stat.S_IMODE(status.st_mode) & 0o077:
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="coft-home-"))
