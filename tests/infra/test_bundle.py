"""A bundle that is made, unpacked somewhere else, and started from there with nothing else.

Made of wheels that are in uv's cache already; nothing is fetched. What analysts have beside
PyTorch, and a few large packages more, stay out, as for a machine that has them: a folder of links
to this environment stands for that.
"""

import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from infra.bundle import packages
from infra.bundle.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VERSION = platform.python_version()
LIMIT = 60_000_000
LARGE = "asyncpg cryptography databricks-sdk duckdb grpcio hf-xet sqlalchemy timm"
THERE = [*packages.BASES["science"], *LARGE.split()]
PROBE = """
import importlib.metadata, sys
import flows.cli, tasks.embed, tasks.serving.pyfunc_model, tasks.tracking.runs, clipcore.embedded
import mlflow, prefect.server.api.server, ray._raylet, duckdb, matplotlib.pyplot, sklearn.manifold
assert importlib.metadata.version("coft") == sys.argv[1]
print(*{module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)})
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of a bundle's parts, for this Python."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("bundles are for 64-bit Linux on x86")
    folder = tmp_path_factory.mktemp("archive")
    words = ["--python-version", VERSION, "--base", "science", "--without", LARGE]
    words += ["--preset", "0", "--parts", "60M"]
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("UV_OFFLINE", "1")
        patched.setattr(sys, "stderr", said)
        code = main([*words, "--out", str(folder)])
    for reason in ("network was disabled", "is not a git clone", "was not found"):
        if code and reason in said.getvalue():
            pytest.skip(f"no bundle can be made here without a network: {said.getvalue()[-500:]}")
    assert code == 0, said.getvalue()
    return folder


@pytest.fixture(scope="module")
def bundle(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that comes out of the parts, having removed these."""
    folder = tmp_path_factory.mktemp("bundle")
    (sums,) = archive.glob("*.sha256")
    whole = folder / "whole.tar.xz"
    with whole.open("wb") as file:
        for line in sums.read_text().splitlines():
            expected, name = line.split("  ")
            data = (archive / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == expected
            assert len(data) <= LIMIT
            file.write(data)
            (archive / name).unlink()
    with tarfile.open(whole) as packed:
        packed.extractall(folder, filter="data")
    whole.unlink()
    (unpacked,) = folder.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables of a machine: a Python that sees no packages but those of the base."""
    folder = tmp_path_factory.mktemp("machine")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys._base_executable} -S -s "$@"\n')  # type: ignore[attr-defined]
    python.chmod(0o755)
    base = folder / "base"
    base.mkdir()
    for distribution in metadata.distributions():
        name = f"{distribution.name.lower()}=={distribution.version}"
        if not packages.absent([name], THERE):
            _link(distribution, base)
    return {
        "COFT_PYTHON": str(python),
        "PYTHONPATH": str(base),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.defpath,
        "HOME": str(folder),
    }


def _link(distribution: metadata.Distribution, base: Path) -> None:
    tops = {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}
    for top in tops:
        if not (base / top).exists():
            (base / top).symlink_to(Path(str(distribution.locate_file(top))))


def test_all_that_coft_imports_comes_from_the_bundle_and_the_machine(
    bundle: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [bundle / "bin" / "coft-python", "-c", PROBE, metadata.version("coft")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    allowed = (str(bundle), environment["PYTHONPATH"], sys.base_prefix)
    files = [path for path in done.stdout.split() if path.startswith("/")]
    assert [path for path in files if not path.startswith(allowed)] == []
    assert str(bundle / "project" / "flows" / "cli.py") in files


def test_the_command_works_from_anywhere(
    bundle: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "coft").symlink_to(bundle / "bin" / "coft")
    done = subprocess.run(
        [tmp_path / "coft", "--version"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == metadata.version("coft")


def test_another_python_is_refused_with_a_sentence(
    bundle: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\nexit 1\n")  # as a Python of another version answers
    other.chmod(0o755)
    done = subprocess.run(
        [bundle / "bin" / "coft", "doctor"],
        env={**environment, "COFT_PYTHON": str(other)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "this bundle needs Python" in done.stderr
    assert str(other) in done.stderr
