"""Where runs are kept, and what is said when that cannot be."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.specs import InputError
from tasks.tracking.store import connect, tracking_for
from tests.worlds.runs import open_run

ROOT = Path(__file__).parents[3]


def test_a_local_workspace_keeps_its_own_database(tmp_path: Path) -> None:
    tracking = tracking_for(str(tmp_path / "w"))
    assert tracking.uri == f"sqlite:///{tmp_path / 'w' / 'mlflow.db'}"
    assert tracking.artifacts == f"file://{tmp_path}/w/artifacts"
    assert not (tmp_path / "w").exists()


def test_a_bucket_workspace_keeps_runs_in_the_data_folder_and_says_so(tmp_path: Path) -> None:
    tracking = tracking_for("s3://me:secret@bucket/work")
    assert tracking.uri == f"sqlite:///{tmp_path}/data/coft/mlflow.db"
    assert "MLFLOW_TRACKING_URI" in tracking.note
    assert "secret" not in tracking.note


def test_the_environment_wins_and_its_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/")
    tracking = tracking_for(str(tmp_path))
    assert tracking.uri == "http://me:secret@127.0.0.1:9/"
    assert tracking.artifacts is None
    assert "secret" not in repr(tracking)


def test_a_server_that_does_not_answer_is_an_error_within_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{address}")
    start = time.monotonic()
    with pytest.raises(InputError, match=f"{address} does not answer") as caught:
        open_run(tracking_for(str(tmp_path)))
    assert time.monotonic() - start < 10
    assert "secret" not in str(caught.value)


def test_stores_that_mlflow_refuses_are_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    with pytest.raises(InputError, match="MLflow cannot use"):
        open_run(tracking_for(str(tmp_path)))


def test_a_workspace_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make"):
        open_run(tracking_for(str(tmp_path / "file" / "workspace")))


def test_a_path_that_no_url_can_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\?' in its path"):
        tracking_for(str(tmp_path / "what?"))


# Opens the store in forks, side by side; each one but the last may be killed at a transaction.
FORKS = """
import os, signal, sys
import mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tasks.tracking.store import connect, tracking_for

def open_store(name, kill_at):
    count = 0

    def commit(_connection):
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "commit", commit)
    connect(tracking_for(sys.argv[1])).create_experiment(name)

def fork(name, kill_at=0):
    if child := os.fork():
        return child
    status = 1
    try:
        open_store(name, kill_at)
        status = 0
    finally:
        os._exit(status)

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def forks(workspace: Path, program: str) -> list[int]:
    """Return the numbers that a program prints."""
    command = [sys.executable, "-c", FORKS + program, str(workspace)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.slow
def test_ten_processes_may_make_the_database_at_once(tmp_path: Path) -> None:
    children = "print(*[ended(child) for child in [fork(str(number)) for number in range(10)]])"
    assert forks(tmp_path, children) == [0] * 10
    found = connect(tracking_for(str(tmp_path))).search_experiments()
    assert {str(number) for number in range(10)} < {experiment.name for experiment in found}


@pytest.mark.slow
def test_a_database_that_was_killed_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    """Each process gets further than the one before, and is killed all the same."""
    every = int(os.environ.get("KILLS", "40"))
    program = f"""
number = 1
while ended(fork("x", number)):
    number += {every}
print(number)
"""
    (number,) = forks(tmp_path, program)
    assert number > every, "none was killed"
    connect(tracking_for(str(tmp_path))).get_experiment_by_name("x")
    assert not (tmp_path / "mlflow.db.new").exists()


@pytest.mark.slow
def test_an_empty_file_is_no_database_yet(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    assert connect(tracking_for(str(tmp_path))).search_experiments()


def test_a_file_that_is_no_database_is_explained_and_left(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("a note of mine\n" * 100)
    with pytest.raises(InputError, match=r"mlflow\.db.*move it away"):
        connect(tracking_for(str(tmp_path)))
    assert (tmp_path / "mlflow.db").read_text() == "a note of mine\n" * 100
