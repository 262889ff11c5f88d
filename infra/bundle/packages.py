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


def pins(project: Path, python_version: str, without: Iterable[str]) -> list[str]:
    """Return `name==version` of all that coft imports, directly or not, but for what is there.

    Args:
        project: Folder of pyproject.toml and requirements.lock.
        python_version: Of the Python that will run it.
        without: Names of packages that are there already; `nvidia-*` stands for many.

    Raises:
        BundleError: uv is absent, or a package has no wheel for that Python; it is named.
    """
    uv = find("uv", "`make install` brings it; or install uv yourself")
    asked = [*_for(python_version), "--constraint", "requirements.lock", "pyproject.toml"]
    asked += ["--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"]
    try:
        answer = run(uv, "pip", "compile", *asked, cwd=project).decode()
    except BundleError as error:
        raise BundleError(
            f"There is no set of wheels for Python {python_version} on {PLATFORM} with the "
            f"versions of requirements.lock. {error}"
        ) from error
    patterns = list(without)
    lines = [line.strip() for line in answer.splitlines() if "==" in line]
    return [line for line in lines if not _matches(line.partition("==")[0], patterns)]


def install(wanted: Sequence[str], python_version: str, site: Path) -> None:
    """Install packages into a folder, as copies that may be changed.

    uv would link files to its cache; to strip one of those would damage every environment that
    has it.

    Raises:
        BundleError: a package cannot be had.
    """
    uv = find("uv", "`make install` brings it; or install uv yourself")
    target = ["--target", str(site), "--link-mode", "copy", "--no-deps", "--quiet"]
    run(uv, "pip", "install", *target, *_for(python_version), *wanted)


def prune(site: Path) -> None:
    """Remove what is never read."""
    for pattern in NEVER_READ:
        for folder in site.glob(pattern):
            shutil.rmtree(folder)
    for folder in list(site.rglob("__pycache__")):
        shutil.rmtree(folder)


def strip_symbols(site: Path) -> None:
    """Remove debugging symbols from large libraries and programs.

    PyTorch and CUDA come without; libraries that were renamed for a wheel (`*.libs`) stay as they
    are, because their headers were moved.
    """
    strip = find("strip", "it comes with binutils (Debian: apt-get install binutils)")
    large = [path for path in sorted(site.rglob("*")) if _worth_stripping(path, site)]
    if large:
        run(strip, "--strip-unneeded", *large)


def _for(python_version: str) -> list[str]:
    wheels = ["--only-binary", ":all:", "--python-platform", PLATFORM]
    return [*wheels, "--python-version", python_version]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name.strip(), pattern) for pattern in patterns)


def _worth_stripping(path: Path, site: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size < WORTH_STRIPPING:
        return False
    if _matches(path.relative_to(site).as_posix(), NEVER_STRIPPED):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
