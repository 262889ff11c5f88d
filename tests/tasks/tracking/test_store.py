"""Where runs are kept, and what is said when that cannot be."""

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


@pytest.mark.slow
def test_a_database_that_was_killed_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db.new").write_bytes(b"half a table")
    connect(tracking_for(str(tmp_path))).create_experiment("x")
    assert (tmp_path / "mlflow.db").is_file()
    assert not (tmp_path / "mlflow.db.new").exists()


@pytest.mark.slow
def test_two_processes_may_make_the_database_at_once(tmp_path: Path) -> None:
    program = """
import sys
from tasks.tracking.store import connect, tracking_for
connect(tracking_for(sys.argv[1])).create_experiment(sys.argv[2])
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    makers = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("one", "two")]
    assert [maker.wait() for maker in makers] == [0, 0]
    found = connect(tracking_for(str(tmp_path))).search_experiments()
    assert {"one", "two"} <= {experiment.name for experiment in found}
