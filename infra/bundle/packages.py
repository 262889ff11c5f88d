"""The libraries of a bundle: which ones, installed for another Python, without what nobody reads.

What is left out of a package was never opened in runs of every command; it is not a guess at what
may be superfluous.
"""

import shutil
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from infra.bundle.programs import BundleError, find, run

PLATFORM = "x86_64-manylinux_2_28"

_PYTORCH = (
    *("torch", "torchvision", "triton", "nvidia-*", "cuda-*"),
    *("numpy", "pillow", "networkx", "sympy", "mpmath", "setuptools"),
)
_SCIENCE = (
    *("scipy", "scikit-learn", "pandas", "pyarrow"),
    *("matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver"),
)
BASES = {"none": (), "pytorch": _PYTORCH, "science": (*_PYTORCH, *_SCIENCE)}
"""What a machine may have already: nothing, PyTorch, or what analysts add to it."""

NEVER_READ = (
    "bin",  # its scripts name the interpreter of this machine
    *(f"ray/{name}" for name in ("rllib", "serve", "tune", "train", "jars", "dashboard/client")),
    "mlflow/server/js",
    "prefect/server/ui*",
)
WORTH_STRIPPING = 500_000  # bytes
NEVER_STRIPPED = ("torch/*", "torchvision*", "triton/*", "nvidia/*", "*.libs/*")


def pins(project: Path, python_version: str) -> list[str]:
    """Return `name==version` of all that coft imports, directly or not.

    Args:
        project: Folder of pyproject.toml and requirements.lock.
        python_version: Of the Python that will run it.

    Raises:
        BundleError: uv is absent, or a package has no wheel for that Python; it is named.
    """
    asked = [*_for(python_version), "--constraint", "requirements.lock", "pyproject.toml"]
    asked += ["--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"]
    uv = _uv()
    try:
        answer = run(uv, "pip", "compile", *asked, cwd=project).decode()
    except BundleError as error:
        raise BundleError(
            f"There is no set of wheels for Python {python_version} on {PLATFORM} with the "
            f"versions of requirements.lock. {error}"
        ) from error
    return [line.strip() for line in answer.splitlines() if "==" in line]


def absent(wanted: Iterable[str], there: Iterable[str]) -> list[str]:
    """Return the pins of packages that are not there; `nvidia-*` stands for many."""
    patterns = list(there)
    return [pin for pin in wanted if not _matches(pin.partition("==")[0], patterns)]


def install(wanted: Sequence[str], python_version: str, site: Path) -> None:
    """Install packages into a folder, as copies that may be changed.

    uv would link files to its cache; to strip one of those would damage every environment that
    has it.

    Raises:
        BundleError: a package cannot be had.
    """
    target = ["--target", str(site), "--link-mode", "copy", "--no-deps", "--quiet"]
    run(_uv(), "pip", "install", *target, *_for(python_version), *wanted)


def prune(site: Path, *, keep: Sequence[str] = ()) -> None:
    """Remove what is never read, but for some patterns of that."""
    for pattern in (pattern for pattern in NEVER_READ if pattern not in keep):
        for folder in site.glob(pattern):
            shutil.rmtree(folder)
    for folder in list(site.rglob("__pycache__")):
        shutil.rmtree(folder)


def strippable(site: Path) -> list[Path]:
    """Return the large libraries and programs whose debugging symbols can go.

    PyTorch and CUDA come without; libraries that were renamed for a wheel (`*.libs`) stay as they
    are, because their headers were moved.
    """
    return [path for path in sorted(site.rglob("*")) if _worth_stripping(path, site)]


def strip_symbols(site: Path) -> None:
    """Remove debugging symbols from large libraries and programs."""
    large = strippable(site)
    if large:
        strip = find("strip", "it comes with binutils (Debian: apt-get install binutils)")
        run(strip, "--strip-unneeded", *large)


def _uv() -> str:
    return find("uv", "`make install` brings it; or install uv yourself")


def _for(python_version: str) -> list[str]:
    wheels = ["--only-binary", ":all:", "--python-platform", PLATFORM]
    return [*wheels, "--python-version", python_version]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _worth_stripping(path: Path, site: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size < WORTH_STRIPPING:
        return False
    if _matches(path.relative_to(site).as_posix(), NEVER_STRIPPED):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
