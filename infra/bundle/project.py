"""The project's own part of a bundle: its tracked files, its metadata, and how to start it."""

import io
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from infra.bundle.programs import BundleError, find, run

FILES = Path(__file__).parent / "files"
PROGRAMS = ("coft", "coft-python")
DESCRIBE = "import sys, setuptools.build_meta as b; b.prepare_metadata_for_build_wheel(sys.argv[1])"


@dataclass(frozen=True)
class Commit:
    """What is packed: the last commit, not what was changed since."""

    name: str
    seconds: int
    changed: bool


def last_commit(root: Path) -> Commit:
    """Return the commit that is checked out.

    Raises:
        BundleError: the folder is no clone, or git is absent.
    """
    if not (root / ".git").exists():
        raise BundleError(f"{root} is not a git clone: nothing says which files belong to coft.")
    name, seconds = _git(root, "log", "-1", "--format=%h %ct").decode().split()
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return Commit(name, int(seconds), bool(changed.strip()))


def copy_tracked(root: Path, folder: Path) -> None:
    """Write the files of the last commit into `folder`."""
    with tarfile.open(fileobj=io.BytesIO(_git(root, "archive", "HEAD"))) as archive:
        archive.extractall(folder, filter="data")


def write_metadata(project: Path, site: Path) -> None:
    """Write what `importlib.metadata` reads of coft: its version and what it requires.

    Args:
        project: The files of coft.
        site: An empty or absent folder; setuptools insists on that.

    Raises:
        BundleError: setuptools is absent.
    """
    site.mkdir(exist_ok=True)
    run(sys.executable, "-c", DESCRIBE, site, cwd=project)
    for folder in project.glob("*.egg-info"):
        shutil.rmtree(folder)


def write_start(bundle: Path, python_version: str) -> None:
    """Write `bin/coft`, `bin/coft-python` and the README."""
    (bundle / "bin").mkdir()
    for name in PROGRAMS:
        _fill(FILES / name, bundle / "bin" / name, python_version)
        (bundle / "bin" / name).chmod(0o755)
    _fill(FILES / "README.md", bundle / "README.md", python_version)


def _fill(template: Path, target: Path, python_version: str) -> None:
    target.write_text(template.read_text().replace("@PYTHON@", python_version))


def _git(root: Path, *words: str) -> bytes:
    git = find("git", "install it (Debian: apt-get install git)")
    return run(git, "-c", "safe.directory=*", *words, cwd=root)
