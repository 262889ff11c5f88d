"""CoFT that is killed at any of its writes, or runs twice at once, arrives at the same."""

import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.specs import (
    AdapterSpec,
    BackboneSpec,
    CoftSpec,
    LabelSpec,
    Phase1Spec,
    Phase2Spec,
    PoolSpec,
    RuntimeSpec,
    TopSpec,
)
from tasks.storage.layout import Folder
from tasks.storage.manifest import iter_tables
from tasks.tracking.store import EXPERIMENT, connect, tracking_for
from tasks.tracking.versions import list_models
from tests.worlds.images import write_images
from tests.worlds.kills import Ended, Runs

FIRST_KILL = 90  # writes of a run; about 35 of them only take up one that was killed
NUM_IMAGES = 60
LABELLED = (Folder.LABELS, Folder.PREDICTIONS)

pytestmark = [pytest.mark.usefixtures("prefect_session"), pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Place:
    """Where images and settings are, and what a run that nobody killed made of them."""

    root: Path
    clip: Path
    runs: Runs
    whole: Any = None
    writes: tuple[str, ...] = ()

    def spec(self, workspace: Path) -> CoftSpec:
        return CoftSpec(
            pool=PoolSpec(
                images=str(self.root / "images.parquet"), labels="column", rows_per_shard=32
            ),
            backbone=BackboneSpec(name=f"local-dir:{self.clip}"),
            label=LabelSpec(top=TopSpec(per_class=4, min_total=0)),
            phase1=Phase1Spec(
                epochs=2, min_steps=0, batch_size=8, adapter=AdapterSpec(num_visual_prompts=2)
            ),
            phase2=Phase2Spec(epochs=1, batch_size=8, holdout=0.3),
            runtime=RuntimeSpec(workspace=str(workspace)),
            register_as="colours",
        )

    def run(self, workspace: Path, kill_at: int = 0) -> Ended:
        summary = workspace.with_suffix(".json")
        return self.runs.run(self.spec(workspace), summary=summary, kill_at=kill_at)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path, runs: Runs) -> Place:
    root = tmp_path_factory.mktemp("killed")
    write_images(root)
    workspace = root / "whole"
    ended = Place(root, tiny_clip, runs).run(workspace)
    assert ended.status == 0
    return Place(root, tiny_clip, runs, what_is_there(workspace), tuple(ended.writes))


def what_is_there(workspace: Path) -> dict[str, Any]:
    """Return all that may not depend on how often a run was killed."""
    summary = json.loads(workspace.with_suffix(".json").read_text())
    stages = sorted(folder for name in LABELLED for folder in (workspace / name).iterdir())
    kept = ("accuracy", "zero_shot_accuracy", "per_class", "num_images", "verdict", "model_uri")
    models = (workspace / "models").glob("*/*.safetensors")
    return {
        **{name: summary[name] for name in kept},
        "rows": {
            folder.name: [row for table in iter_tables(str(folder)) for row in table.to_pylist()]
            for folder in stages
        },
        "weights": {path.name: path.read_bytes() for path in models},
        "tracked": tracked(workspace),
    }


def tracked(workspace: Path) -> dict[str, Any]:
    """Return what MLflow has: one run, each metric once a step, one version."""
    tracking = tracking_for(str(workspace))
    client = connect(tracking)
    (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    points = {
        name: sorted(point.step for point in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }
    connect.cache_clear()
    assert all(len(steps) == len(set(steps)) for steps in points.values()), points
    versions = [(model.version, model.aliases) for model in list_models(tracking)]
    return {"status": run.info.status, "points": points, "versions": versions}


def test_a_run_that_is_killed_again_and_again_arrives_at_the_same(place: Place) -> None:
    workspace = place.root / "again"
    kills = 0
    while (ended := place.run(workspace, kill_at=FIRST_KILL * (kills + 1))).status:
        assert ended.status == -signal.SIGKILL
        kills += 1
    assert kills >= 2
    assert what_is_there(workspace) == place.whole
    assert len(place.whole["rows"]) == 5, "zero-shot, confident, two peers, predictions"


@pytest.mark.skipif("KILLS" not in os.environ, reason="KILLS=1 kills before each write, 9 each 9th")
@pytest.mark.timeout(0)
def test_a_run_that_is_killed_at_any_write_arrives_at_the_same(place: Place) -> None:
    """The last transaction says that the run is finished; what is killed after it is over."""
    last = max(number for number, what in enumerate(place.writes, 1) if what == "commit")
    wrong = {}
    for number in range(1, last + 1, int(os.environ["KILLS"])):
        workspace = place.root / f"at-{number}"
        assert place.run(workspace, kill_at=number).status == -signal.SIGKILL
        if place.run(workspace).status or what_is_there(workspace) != place.whole:
            wrong[number] = place.writes[number - 1]
            print("wrong", number, wrong[number])  # noqa: T201  # hours before the end
        else:
            shutil.rmtree(workspace)
    assert wrong == {}


def test_two_runs_at_once_in_a_new_workspace_make_what_one_makes(place: Place) -> None:
    workspace = place.root / "both"
    summaries = [place.root / f"both-{number}.json" for number in range(2)]
    ended = place.runs.run_at_once([place.spec(workspace)] * 2, summaries=summaries)
    assert [one.status for one in ended] == [0, 0]
    found = [json.loads(summary.read_text()) for summary in summaries]
    for name in ("accuracy", "per_class", "model_uri"):
        assert [one[name] for one in found] == [place.whole[name]] * 2
    assert found[0]["run_id"] != found[1]["run_id"], "each has a run of its own"
    shutil.copy(summaries[0], workspace.with_suffix(".json"))
