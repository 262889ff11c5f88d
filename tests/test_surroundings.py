"""A machine that lacks what libraries take for granted: a home, room, permissions, a way out.

Each run is in name spaces of its own (Linux), where its mounts and its user are nobody else's.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from flows import cli
from tests.worlds.images import encoded_image
from tests.worlds.names import write_named
from tests.worlds.workspace import write_workspace

ROOT = Path(__file__).parents[1]
NOBODY = "54321"  # a number that no user has
AS_NOBODY = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
WITH_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]
COFT = [sys.executable, "-c", "from flows.cli import main; main()"]
NOWHERE = "/dev/null/nowhere"
PERSONAL = ("HOME", "PREFECT_HOME", "PREFECT_API_URL", "MPLCONFIGDIR", "HF_HOME", "DUCKDB_HOME")


def contained(
    folder: Path,
    words: list[str],
    *,
    mounts: str,
    user: Sequence[str] = AS_NOBODY,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user whom nobody knows, without what belongs to a person.

    Skips the test where that is not allowed.

    Args:
        folder: Where it runs.
        words: The command.
        mounts: What is mounted before, for this run alone, in words of a shell.
        user: How it gets another user; none to mount more.
        environment: Added to what is not personal.
    """
    try:
        subprocess.run([*WITH_MOUNTS, *AS_NOBODY, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs name spaces for users and mounts, which are not allowed here")
    own = {name: value for name, value in os.environ.items() if name not in PERSONAL}
    own = {name: value for name, value in own.items() if not name.startswith("XDG_")}
    return subprocess.run(
        [*WITH_MOUNTS, "sh", "-c", f'{mounts} && exec "$@"', "sh", *user, *words],
        cwd=folder,
        env={**own, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(12):
        write_named(folder, b"%d" % number, encoded_image(number))
    return folder


def read_only(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o555 if place.is_dir() else 0o444)
    return folder


@pytest.fixture(autouse=True)
def writable_again(tmp_path: Path) -> object:
    yield
    for place in (tmp_path, *(place for place in tmp_path.rglob("*") if place.is_dir())):
        place.chmod(0o755)


# --- it works nevertheless ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_needs_no_home_no_way_out_and_no_more_than_a_workspace(
    tmp_path: Path, photos: Path, tiny_clip: Path
) -> None:
    """One run without all of it at once: a home, caches, shared memory, a proxy that answers."""
    workspace = tmp_path / "workspace"
    words = ["adapt", "--method", "zero-shot", "--images", str(read_only(photos))]
    words += ["--classes", "red,green", "--backbone", f"local-dir:{tiny_clip}"]
    before = sorted(tmp_path.rglob("*"))
    done = contained(
        read_only(tmp_path / "current"),
        [*COFT, *words, "--workspace", str(workspace)],
        mounts="mount -t tmpfs -o size=8m tmpfs /dev/shm",
        TMPDIR=str(read_only(tmp_path / "temporary")),
        XDG_CACHE_HOME=NOWHERE,
        XDG_CONFIG_HOME=NOWHERE,
        XDG_DATA_HOME=NOWHERE,
        HTTP_PROXY="http://192.0.2.1:3128",
        HTTPS_PROXY="http://192.0.2.1:3128",
        ALL_PROXY="socks5://192.0.2.1:1080",
    )
    assert done.returncode == 0, done.stderr
    assert "verdict" in done.stdout
    made = {place.name for place in tmp_path.rglob("*")} - {place.name for place in before}
    assert "mlflow.db" in made
    outside = [p for p in tmp_path.rglob("*") if p not in before and workspace not in p.parents]
    assert set(outside) <= {workspace, tmp_path / "current", tmp_path / "temporary"}


# --- it is refused at once ------------------------------------------------------------------------


def test_a_current_folder_that_was_removed_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"import os; os.rmdir({str(gone)!r}); from flows.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "models", "list"],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == cli.BAD_INPUT, done.stderr
    assert done.stderr == "coft: the current folder was removed; change to another one\n"


def test_a_machine_without_room_for_ray_is_told(tmp_path: Path, photos: Path) -> None:
    """Neither in shared memory nor among the temporary files."""
    place, small = tmp_path / "workspace", "/var/tmp"  # noqa: S108
    disks = {"/dev/shm": "8m", small: "48m"}  # noqa: S108
    mounts = " && ".join(f"mount -t tmpfs -o size={size} tmpfs {at}" for at, size in disks.items())
    words = ["adapt", "--images", str(photos), "--classes", "red,green", "--workspace", str(place)]
    done = contained(tmp_path, [*COFT, *words], mounts=mounts, TMPDIR=small)
    assert done.returncode == cli.BAD_INPUT, done.stderr
    assert f"room for ray: 8 MiB in /dev/shm, 48 MiB in {small}; Ray needs" in done.stderr
    assert not place.exists()


def test_a_limit_of_open_files_that_is_too_low_is_told(tmp_path: Path, photos: Path) -> None:
    words = ["embed", "--images", str(photos), "--workspace", str(tmp_path / "workspace")]
    done = under("ulimit -n 64", words, tmp_path)
    assert done.returncode == cli.BAD_INPUT, done.stderr
    assert "open files: a process may have 64 open; a run needs 1024" in done.stderr
    assert not (tmp_path / "workspace").exists()


def test_output_that_is_closed_or_knows_few_letters_stops_nothing(tmp_path: Path) -> None:
    write_named(tmp_path / "phötos", b"1", encoded_image(1))
    words = ["embed", "--images", "phötos", "--dry-run", "--workspace", "wörk"]
    assert under("exec >&- 2>&-", words, tmp_path).returncode == cli.DONE
    told = under("export PYTHONIOENCODING=ascii", words, tmp_path)
    assert told.returncode == cli.DONE, told.stderr
    assert "w\\xf6rk (new)" in told.stdout


def under(settings: str, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command behind words of a shell."""
    return subprocess.run(
        ["/bin/sh", "-c", f'{settings}; exec "$@"', "sh", *COFT, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_without_a_folder_for_temporary_files_is_told() -> None:
    """Not even the current one can be written, and the user has no home."""
    folders = ("/tmp", "/var/tmp")  # noqa: S108
    if any(Path(sys.executable).is_relative_to(folder) for folder in folders):
        pytest.skip("the program itself is in a folder that would be hidden")
    mounts = " && ".join(f"mount -t tmpfs -o ro tmpfs {folder}" for folder in folders)
    done = contained(Path("/proc"), [*COFT, "models", "list"], mounts=mounts)
    assert done.returncode == cli.BAD_INPUT, done.stderr
    assert "name one in TMPDIR" in done.stderr


def test_a_workspace_that_can_only_be_read_is_asked_and_not_written(
    tmp_path: Path, photos: Path
) -> None:
    place = tmp_path / "workspace"
    write_workspace(str(place))
    asked = ["--workspace", str(read_only(place))]
    query = [*COFT, "query", "select count(*) as n from images", "--format", "csv"]
    found = contained(tmp_path, [*query, *asked], mounts="true")
    assert found.stdout.split() == ['"n"', "49"], found.stderr
    assert contained(tmp_path, [*COFT, "models", "list", *asked], mounts="true").returncode == 0
    refused = contained(tmp_path, [*COFT, "embed", "--images", str(photos), *asked], mounts="true")
    assert refused.returncode == cli.BAD_INPUT, refused.stderr
    assert f"coft: workspace: {place}: {place} cannot be written (Permission denied)" in (
        refused.stderr
    )


# --- a disk that fills up -------------------------------------------------------------------------

# Runs one command in a workspace whose disk grows: no room for a stage, none for the database of
# the runs, which takes more than 1 MB, room for all.
GROWING = """
import contextlib, io, json, subprocess, sys
from flows import cli
from infra import offline

offline.apply()
place, words = sys.argv[1], sys.argv[2:]
for size in ("64k", "400k", "64m"):
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = cli.run(words)
    print(json.dumps({"code": code, "said": said.getvalue()}), flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_on_a_full_disk_says_so_keeps_what_is_finished_and_goes_on(
    tmp_path: Path, photos: Path, tiny_clip: Path
) -> None:
    place = tmp_path / "small"
    place.mkdir()
    words = ["adapt", "--method", "zero-shot", "--images", str(photos), "--classes", "red,green"]
    words += ["--backbone", f"local-dir:{tiny_clip}", "--workspace", str(place / "workspace")]
    done = contained(
        tmp_path,
        [sys.executable, "-c", GROWING, str(place), *words],
        mounts=f"mount -t tmpfs -o size=64k tmpfs '{place}'",
        user=[],
        PREFECT_LOGGING_LEVEL="CRITICAL",
    )
    assert done.returncode == 0, done.stderr
    first, second, last = map(json.loads, done.stdout.splitlines())
    for result in (first, second):
        assert result["code"] == cli.FAILED, result["said"]
        told = result["said"].splitlines()[-1]
        assert told.startswith(f"coft: no space left on {place} for {place}/workspace")
        assert told.endswith("finished work is kept; run again with more room")
        assert "Traceback" not in result["said"]
    assert last["code"] == cli.DONE, last["said"]
    assert "listed before; nothing to do" in last["said"], last["said"]
