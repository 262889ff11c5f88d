"""What goes into a bundle: neither what is there already nor what nobody reads."""

import sys
from pathlib import Path

import pytest

from infra.bundle import packages, programs
from infra.bundle.programs import BundleError

PINS = ["nvidia-nccl-cu13==2.1", "pandas==3.1.1", "pytz==2026.6", "torch==2.15.0"]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty folder that is all that is searched for programs."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("there", "left"),
    [
        (packages.BASES["none"], PINS),
        (packages.BASES["pytorch"], PINS[1:3]),
        (packages.BASES["science"], PINS[2:3]),
        ([*packages.BASES["science"], "pytz"], []),
        ([""], PINS),
    ],
)
def test_what_is_there_is_left_out(there: list[str], left: list[str]) -> None:
    assert packages.absent(PINS, there) == left


def test_an_absent_program_is_told_with_what_to_do(elsewhere: Path) -> None:
    with pytest.raises(BundleError, match=r"uv was not found.*make install"):
        packages.pins(elsewhere, "3.12")


def test_a_package_without_wheels_is_named(elsewhere: Path) -> None:
    said = "Because matplotlib==3.11.2 has no usable wheels"
    (elsewhere / "uv").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    (elsewhere / "uv").chmod(0o755)
    with pytest.raises(BundleError, match=rf"wheels for Python 3\.16.*{said}"):
        packages.pins(elsewhere, "3.16")


def test_a_program_that_fails_tells_why() -> None:
    with pytest.raises(BundleError, match="no such thing"):
        programs.run(sys.executable, "-c", "import sys; sys.exit('no such thing')")


def test_what_nobody_reads_goes_and_the_rest_stays(tmp_path: Path) -> None:
    gone = ["bin/ray", "ray/rllib/x.py", "ray/dashboard/client/x.js", "prefect/server/ui-v2/x.js"]
    kept = ["ray/dashboard/x.py", "prefect/server/api/x.py", "mlflow/server/handlers.py"]
    for name in [*gone, *kept, "ray/__pycache__/x.pyc"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    packages.prune(tmp_path)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert left == set(kept)


def test_large_libraries_lose_their_symbols_but_for_those_that_were_rewritten(
    tmp_path: Path,
) -> None:
    library = b"\x7fELF" + bytes(packages.WORTH_STRIPPING)
    for name in ["ray/a.so", "b.so.1", "torch/lib/c.so", "scipy.libs/d.so", "small.so", "data"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(library)
    (tmp_path / "small.so").write_bytes(library[:100])
    (tmp_path / "data").write_bytes(library[4:] + b"data")
    found = [path.relative_to(tmp_path).as_posix() for path in packages.strippable(tmp_path)]
    assert found == ["b.so.1", "ray/a.so"]
