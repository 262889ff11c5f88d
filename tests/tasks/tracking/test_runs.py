"""Runs in a real MLflow database, with what MLflow itself reads back."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.specs import InputError
from tasks.tracking.running import let_go
from tasks.tracking.runs import (
    ALIVE,
    MACHINE,
    Run,
    end_dead_runs,
    finish_run,
    log_file,
    log_history,
    log_metrics,
    log_text,
    page_of,
)
from tasks.tracking.store import Tracking, connect
from tests.worlds.runs import open_run

ROOT = Path(__file__).parents[3]
HISTORY = [
    {"phase": 1, "peer": 2, "epoch": epoch, "loss": 2.0 / (epoch + 1), "seconds": 1.5}
    for epoch in range(4)
]


def test_two_flows_have_two_runs_with_their_own_numbers(tracking: Tracking) -> None:
    first = open_run(tracking, "a" * 16, phase1={"epochs": 10}, seed=0)
    log_metrics(first, {"accuracy": 0.5})
    finish_run(first)
    second = open_run(tracking, "b" * 16, phase1={"epochs": 20}, seed=1)
    log_metrics(second, {"accuracy": 0.75})
    finish_run(second)

    found = {run.info.run_id: run for run in connect(tracking).search_runs([first.experiment_id])}
    assert set(found) == {first.run_id, second.run_id}
    assert found[first.run_id].data.params == {"phase1.epochs": "10", "seed": "0"}
    assert found[second.run_id].data.metrics == {"accuracy": 0.75}
    assert found[second.run_id].info.run_name == "pets"
    assert {run.info.status for run in found.values()} == {"FINISHED"}


@pytest.mark.parametrize("end", ["killed", "FAILED", "KILLED"])
def test_an_unfinished_run_of_an_equal_flow_is_continued(tracking: Tracking, end: str) -> None:
    before = open_run(tracking)
    log_metrics(before, {"loss": 1.0}, step=0)
    if end != "killed":  # a killed process says nothing
        finish_run(before, end)  # type: ignore[arg-type]

    after = open_run(tracking)
    log_metrics(after, {"loss": 0.5}, step=1)
    finish_run(after)

    assert (after.run_id, after.resumed, before.resumed) == (before.run_id, True, False)
    client = connect(tracking)
    assert [m.value for m in client.get_metric_history(after.run_id, "loss")] == [1.0, 0.5]
    assert client.get_run(after.run_id).info.status == "FINISHED"
    assert client.get_run(after.run_id).data.tags["coft.starts"] == "2"


OTHER = """
import os, signal, sys
from tasks.tracking.runs import log_metrics
from tasks.tracking.store import tracking_for
from tests.worlds.runs import open_run

run = open_run(tracking_for(sys.argv[1]), sys.argv[2])
log_metrics(run, {"loss": 1.0}, step=0)
print(run.run_id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(workspace: Path) -> Iterator[Callable[[str], tuple[str, subprocess.Popen[str]]]]:
    """Return `start(digest)`: another process with a run; the run's id and the process."""
    processes: list[subprocess.Popen[str]] = []

    def start(digest: str) -> tuple[str, subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(workspace), digest],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout
        return process.stdout.readline().strip(), process

    yield start
    for process in processes:
        process.communicate()


@pytest.mark.slow
def test_runs_of_dead_processes_end_as_killed_and_others_are_left(
    tracking: Tracking, other: Callable[[str], tuple[str, subprocess.Popen[str]]]
) -> None:
    alive, _ = other("a" * 16)
    dead, process = other("b" * 16)
    process.kill()
    process.wait()
    foreign = connect(tracking).create_run("1").info.run_id  # of another program
    run = open_run(tracking, "c" * 16)
    status = {run.info.run_id: run.info.status for run in connect(tracking).search_runs(["1"])}
    assert status == {alive: "RUNNING", dead: "KILLED", foreign: "RUNNING", run.run_id: "RUNNING"}
    assert open_run(tracking, "a" * 16).run_id != alive, "each command has a run of its own"
    again = open_run(tracking, "b" * 16)
    assert again.run_id == dead
    log_metrics(again, {"loss": 2.0, "accuracy": 0.5}, step=0)
    log_metrics(again, {"loss": 2.0}, step=1)
    curve = connect(tracking).get_metric_history(dead, "loss")
    assert [(point.step, point.value) for point in curve] == [(0, 1.0), (1, 2.0)]
    finish_run(again)
    assert not (Path(str(tracking.home)) / "running" / dead).exists()


def test_a_finished_run_and_another_digest_are_not_continued(tracking: Tracking) -> None:
    finished = open_run(tracking, "a" * 16)
    finish_run(finished)
    unfinished = open_run(tracking, "b" * 16)
    assert open_run(tracking, "a" * 16).run_id != finished.run_id
    assert open_run(tracking, "c" * 16).run_id != unfinished.run_id


def test_a_continued_run_keeps_its_parameters_and_takes_new_ones(tracking: Tracking) -> None:
    open_run(tracking, workspace="here", seed=0)
    run = open_run(tracking, workspace="there", seed=0, ray_address="auto")
    params = connect(tracking).get_run(run.run_id).data.params
    assert params == {"workspace": "here", "seed": "0", "ray_address": "auto"}


def test_more_parameters_and_metrics_than_one_request_takes(tracking: Tracking) -> None:
    names = [f"class {i}: naïve/<{i}>" for i in range(1100)]
    run = open_run(tracking, **{f"p{i}": i for i in range(130)}, classes="x" * 9000)
    log_metrics(run, dict.fromkeys(names, 0.5) | {"unknown": None})
    data = connect(tracking).get_run(run.run_id).data
    assert len(data.params) == 131
    assert len(data.metrics) == 1100
    assert data.metrics["class 7_ naïve/_7_"] == 0.5


def test_history_becomes_curves_and_logging_it_again_adds_nothing(run: Run) -> None:
    for _ in range(2):
        log_history(run, [*HISTORY, {"phase": 1, "peer": 2, "epoch": 4, "loss": float("nan")}])
    curve = connect(run.tracking).get_metric_history(run.run_id, "phase1/peer2/loss")
    assert [(point.step, point.value) for point in curve] == [
        (row["epoch"], row["loss"]) for row in HISTORY
    ]
    seconds = [(point.timestamp - run.started) / 1000 for point in curve]
    assert seconds == [1.5, 3.0, 4.5, 6.0]


def test_files_and_texts_are_artifacts(run: Run, tmp_path: Path, workspace: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>fine</p>")
    log_file(run, report, folder="report")
    log_text(run, "all well", "notes/health.md")
    found = {path.name: path.read_text() for path in workspace.rglob("artifacts/*/*/*/*.*")}
    assert found == {"report.html": "<p>fine</p>", "health.md": "all well"}
    with pytest.raises(InputError, match=r"nowhere\.html"):
        log_file(run, tmp_path / "nowhere.html")


def test_a_deleted_experiment_is_explained(tracking: Tracking) -> None:
    run = open_run(tracking)
    connect(tracking).delete_experiment(run.experiment_id)
    with pytest.raises(InputError, match="was deleted; restore it"):
        open_run(tracking)


@pytest.mark.parametrize(("ago", "status"), [(60, "RUNNING"), (901, "KILLED")])
def test_a_run_of_a_machine_that_is_not_seen_is_dead_when_it_gave_no_sign(
    tracking: Tracking, ago: float, status: str
) -> None:
    run = open_run(tracking)
    client = connect(tracking)
    client.set_tag(run.run_id, MACHINE, "elsewhere")
    client.set_tag(run.run_id, ALIVE, f"{time.time() - ago:.0f}")
    let_go(Path(str(tracking.home)) / "running" / run.run_id)  # no file that is seen from here
    assert end_dead_runs(tracking) == (["pets"] if status == "KILLED" else [])
    assert client.get_run(run.run_id).info.status == status


def test_a_run_on_a_server_has_a_page_without_the_password() -> None:
    of_server = Tracking(uri="https://me:canary@host:5000/")
    run = Run(tracking=of_server, run_id="r", experiment_id="7", started=0)
    assert page_of(run) == "https://host:5000/#/experiments/7/runs/r"
    assert page_of(run.model_copy(update={"tracking": Tracking(uri="sqlite:///a.db")})) is None
