"""A workspace in another place than where it was made, with what MLflow itself reads there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.tracking.champion import download_bundle
from tasks.tracking.registration import register_model
from tasks.tracking.runs import finish_run, log_text
from tasks.tracking.store import Tracking, connect, tracking_for
from tasks.tracking.versions import list_models
from tests.worlds.runs import open_run

LOAD = """
import sys
import mlflow

mlflow.set_tracking_uri(sys.argv[1])
print(mlflow.artifacts.download_artifacts("models:/pets/1"))
"""


@pytest.fixture
def made(tracking: Tracking, bundle: Path) -> Path:
    """Return a workspace with a run, an artifact and a registered model."""
    run = open_run(tracking)
    log_text(run, "all well", "notes.txt")
    register_model(run, bundle, name="pets", healthy=True, evidence={})
    finish_run(run)
    connect.cache_clear()
    assert tracking.home is not None
    return Path(tracking.home)


def where_mlflow_finds_it(workspace: Path) -> Path:
    """Ask a process that knows nothing of coft."""
    command = [sys.executable, "-c", LOAD, f"sqlite:///{workspace / 'mlflow.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=workspace)
    return Path(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_models_and_artifacts_are_found_where_they_are(
    made: Path, tmp_path: Path, *, copied: bool
) -> None:
    place = tmp_path / "50% off" / "here"
    if copied:
        shutil.copytree(made, place)
    else:
        place.parent.mkdir()
        made.rename(place)
    tracking = tracking_for(str(place))
    assert [model.uri for model in list_models(tracking)] == ["models:/pets/1"]
    assert where_mlflow_finds_it(place).is_relative_to(place), "`models list` has set it right"
    assert download_bundle(tracking, "models:/pets@candidate").is_relative_to(place)
    (run,) = connect(tracking).search_runs(["1"])
    assert connect(tracking).list_artifacts(run.info.run_id)[0].path == "notes.txt"
    again = open_run(tracking)
    log_text(again, "still well", "notes.txt")
    assert len(list(place.rglob("notes.txt"))) == 2
    assert len(list(made.rglob("notes.txt"))) == (1 if copied else 0)


def test_a_link_to_a_workspace_is_no_move(made: Path, tmp_path: Path) -> None:
    before = (made / "mlflow.db").read_bytes()
    (tmp_path / "link").symlink_to(made)
    assert len(list_models(tracking_for(str(tmp_path / "link")))) == 1
    assert (made / "mlflow.db").read_bytes() == before


def test_files_that_a_database_keeps_for_another_workspace_are_left(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable may say that the runs of one workspace are kept in the database of another."""
    other = tmp_path / "other"
    (other / "artifacts").mkdir(parents=True)
    shutil.copy(made / "mlflow.db", other)
    (made / "mlflow.db").unlink()
    before = (other / "mlflow.db").read_bytes()
    assert len(list_models(tracking_for(str(other)))) == 1
    assert (other / "mlflow.db").read_bytes() == before


def test_a_database_that_cannot_be_written_is_read(made: Path, tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("nothing is read-only to root")
    made.rename(tmp_path / "here")
    (tmp_path / "here" / "mlflow.db").chmod(0o400)
    assert len(list_models(tracking_for(str(tmp_path / "here")))) == 1
