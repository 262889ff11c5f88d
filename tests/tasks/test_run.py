"""How the MLflow run of a flow ends, whatever ends the flow."""

import signal
from pathlib import Path

import pytest
from prefect.exceptions import TerminationSignal

from infra.interrupts import Stopped
from tasks.refs import BackboneRef, ImagesRef, TaskRef
from tasks.run import tracked
from tasks.specs import CoftSpec, GaveUp, PoolSpec, RuntimeSpec
from tasks.tracking.running import FOLDER
from tasks.tracking.store import EXPERIMENT, connect, tracking_for

COUNTS = dict.fromkeys(("num_pool", "num_test", "num_duplicates", "num_quarantined"), 0)
IMAGES = ImagesRef(uri="here", digest="images", **COUNTS)
TASK = TaskRef(uri="here", digest="task", classes=("a", "b"), labeled=False)
BACKBONE = BackboneRef(
    name="tiny",
    kind="vit",
    embed_dim=8,
    image_size=32,
    quick_gelu=False,
    weights_sha256="0",
    preprocess_hash="0",
)


def run_that(workspace: Path, error: BaseException | None = None) -> None:
    """Open the run of a flow, and end it with an error, or well."""
    runtime = RuntimeSpec(workspace=str(workspace))
    spec = CoftSpec(pool=PoolSpec(images="photos", classes="a,b"), runtime=runtime)
    with tracked(spec, IMAGES, TASK, BACKBONE):
        if error is not None:
            raise error


def test_a_run_ends_as_its_flow_does_and_is_one_run_until_it_finished(tmp_path: Path) -> None:
    """Killed by Ctrl-C, by SIGTERM inside of Prefect's flow, by an exit; failed by an error."""
    client = connect(tracking_for(str(tmp_path)))

    def statuses() -> list[str]:
        assert list((tmp_path / FOLDER).iterdir()) == [], "it is let go of"
        experiment = client.get_experiment_by_name(EXPERIMENT)
        return [run.info.status for run in client.search_runs([experiment.experiment_id])]

    for error in (Stopped(), TerminationSignal(signal=signal.SIGTERM), SystemExit(3)):
        with pytest.raises(type(error)):
            run_that(tmp_path, error)
        assert statuses() == ["KILLED"]
    with pytest.raises(GaveUp):
        run_that(tmp_path, GaveUp("no room"))
    assert statuses() == ["FAILED"]
    run_that(tmp_path)
    assert statuses() == ["FINISHED"]
