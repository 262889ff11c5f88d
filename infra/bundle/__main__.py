"""Pack coft and what it needs for a machine without a package index; `make bundle` runs this."""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from infra.bundle import archive, packages, project
from infra.bundle.programs import BundleError

ROOT = Path(__file__).parents[2]
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
FAILED = 2


@dataclass(frozen=True)
class Made:
    """A bundle that was made: its archive, whole or in parts, and the sums of those."""

    files: list[Path]
    sums: Path

    def lines(self) -> list[str]:
        """Say what was made and how to unpack it."""
        total = sum(path.stat().st_size for path in self.files)
        last = self.files[-1].name
        packed = re.sub(r"part-\d+$", "part-*", last)
        return [
            f"{total / 1e6:,.0f} MB in {len(self.files)} file(s): {self.files[0].parent}/{packed}",
            "There, beside each other:",
            f"  sha256sum --check {self.sums.name} && cat {packed} | tar -xJ",
            f"  {self.files[0].name.partition('.tar')[0]}/bin/coft doctor",
        ]


def make(asked: argparse.Namespace) -> Made:
    """Make the bundle that the command line asks for.

    Raises:
        BundleError: a program or a package is missing.
    """
    commit = project.last_commit(ROOT)
    if commit.changed:
        _say(f"Packing commit {commit.name}; what was changed since then is not in it.")
    there = [*packages.BASES[asked.base], *re.split(r"[\s,]+", asked.without.strip())]
    wanted = packages.absent(packages.pins(ROOT, asked.python_version), there)
    name = _name(asked)
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=asked.out) as scratch:
        folder = Path(scratch) / name
        _fill(folder, wanted, asked.python_version)
        _say(f"Packing {_size(folder) / 1e6:,.0f} MB.")
        files = archive.pack(
            folder,
            asked.out / f"{name}.tar.xz",
            seconds=commit.seconds,
            preset=asked.preset,
            limit=asked.parts,
        )
    sums = asked.out / f"{name}.sha256"
    archive.write_sums(files, sums)
    return Made(files, sums)


def main(words: Sequence[str] | None = None) -> int:
    """Make a bundle; return 2 if that cannot be done, having said why."""
    try:
        made = make(_parser().parse_args(words))
    except BundleError as error:
        _say(f"make bundle: {error}")
        return FAILED
    sys.stdout.write("\n".join(made.lines()) + "\n")
    return 0


def _fill(folder: Path, wanted: Sequence[str], python_version: str) -> None:
    """Lay out a bundle: `project` as it is tracked, `site` with its libraries, `bin` to start."""
    site = folder / "site"
    project.copy_tracked(ROOT, folder / "project")
    project.write_start(folder, _minor(python_version))
    project.write_metadata(folder / "project", site)
    _say(f"Installing {len(wanted)} packages for Python {python_version}.")
    packages.install(wanted, python_version, site)
    packages.prune(site)
    packages.strip_symbols(site)


def _name(asked: argparse.Namespace) -> str:
    base = "" if asked.base == "none" else f"-beside-{asked.base}"
    return f"coft-{metadata.version('coft')}-python{_minor(asked.python_version)}-x86_64{base}"


def _minor(python_version: str) -> str:
    """Return the part of a version that wheels depend on: 3.12 of 3.12.1."""
    return ".".join(python_version.split(".")[:2])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _bytes(text: str) -> int | None:
    """Read `60M`; nothing at all means no limit."""
    if not text:
        return None
    found = re.fullmatch(r"(\d+)([KMG]?)B?", text.upper())
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"expected a size such as 60M, not {text!r}")
    return int(found[1]) * UNITS[found[2]]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _version(text: str) -> str:
    if not re.fullmatch(r"3\.\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected a version such as 3.12, not {text!r}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bundle", description=__doc__)
    parser.add_argument("--python-version", type=_version, required=True, help="such as 3.12")
    parser.add_argument("--base", choices=packages.BASES, default="none", help="what is there")
    parser.add_argument("--without", default="", help="more packages that are there: 'grpcio pytz'")
    parser.add_argument("--parts", type=_bytes, help="the most bytes of a file, such as 60M")
    parser.add_argument("--preset", type=int, choices=range(10), default=1, help="of xz")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the archive")
    return parser


if __name__ == "__main__":
    sys.exit(main())
