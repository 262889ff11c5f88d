"""The programs that make a bundle: found, run, and what they complain of told to a person."""

import shutil
import subprocess
import sys
from pathlib import Path

MOST_TOLD = 2000  # characters


class BundleError(RuntimeError):
    """A bundle that cannot be made. The message says why and what to do about it."""


def find(name: str, hint: str) -> str:
    """Return the path of a program: beside this Python, or on the path.

    Raises:
        BundleError: it is not there.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        raise BundleError(f"{name} was not found, beside {sys.executable} or on the PATH: {hint}")
    return found


def run(*command: str | Path, cwd: Path | None = None) -> bytes:
    """Run a program to its end and return what it prints.

    Raises:
        BundleError: it failed; with what it says of that.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False)  # noqa: S603  # no shell, and the words are ours
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-MOST_TOLD:]
        raise BundleError(f"{Path(command[0]).name} failed: {said or done.returncode}")
    return done.stdout
