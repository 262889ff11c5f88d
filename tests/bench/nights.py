"""Nights as they come, with real servers: cron, new images, a worse model, a killed worker.

    python -m tests.bench.nights [FOLDER [new-images] [worse-model] [killed-worker]]

Starts what `make up` starts, in FOLDER, on ports of its own; deploys the nightly flow on a cron of
a minute, and asserts after each night what should have come of it. Takes a quarter of an hour on
two cores; says one line for each thing that is shown. A folder that is there already goes on.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import psutil
import pyarrow.parquet as pq

from infra import servers
from tasks.demo import CLASSES, write_digits
from tests.worlds.served import free_port

NUM_FIRST, NUM_MORE, NUM_HELD_OUT = 300, 40, 300
MODEL = "digits"
T = TypeVar("T")


class Nights:
    """A deployment, its images, and what came of its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.images, self.workspace = folder, folder / "photos", folder / "workspace"
        rows = pq.read_table(write_digits(str(folder / "digits.parquet"))).to_pylist()
        self._pool = [row for row in rows if row["split"] == "pool"]
        self._written = len(list(self.images.glob("*")))
        for row in [row for row in rows if row["split"] == "test"][:NUM_HELD_OUT]:
            _put(folder / "held-out" / row["label"] / row["name"], row["image"])
        self.seen: set[UUID] = set()

    def add(self, count: int) -> None:
        """Add images of which nobody has said what they show."""
        for row in self._pool[self._written : self._written + count]:
            _put(self.images / row["name"], row["image"])
        self._written += count

    def parameters(self, sentences: Path | None = None) -> dict[str, Any]:
        """Return what the deployment is asked for, maybe with class sentences of a file."""
        run = {
            "pool": {"images": str(self.images), "classes": ",".join(CLASSES)},
            "templates": None if sentences is None else str(sentences),
            "backbone": {"name": "embedded:glyph"},
            "label": {"templates": ["a photo of the {}."], "top": {"min_total": 160}},
            "phase1": {"min_steps": 60},
            "phase2": {"learning_rate": 3e-4, "epochs": 1},
            "gate": {"max_lost_classes": 3},
            "flip": False,
            "register_as": MODEL,
            "runtime": {"workspace": str(self.workspace)},
        }
        held_out = {
            "images": str(self.folder / "held-out"),
            "labels": "folders",
            "classes": ",".join(CLASSES),
        }
        return {"spec": {"adapt": run, "held_out": held_out, "min_new": 20}}

    def deploy(self, client: Any) -> None:
        """Copy the deployment of prefect.yaml, with a cron of a minute that is off."""
        from prefect.client.schemas.actions import DeploymentScheduleCreate
        from prefect.client.schemas.schedules import CronSchedule

        of_file = client.read_deployment_by_name("nightly/nightly")
        self.id = client.create_deployment(
            of_file.flow_id,
            "every-minute",
            entrypoint=of_file.entrypoint,
            pull_steps=of_file.pull_steps,
            work_pool_name=of_file.work_pool_name,
            parameters=self.parameters(),
            concurrency_limit=1,
            concurrency_options=of_file.concurrency_options,
            schedules=[
                DeploymentScheduleCreate(
                    schedule=CronSchedule(cron="* * * * *", timezone="UTC"), active=False
                )
            ],
        )
        self.seen = {run.id for run in _runs(client, self.id)}  # of nights that were before

    def ask(self, client: Any, parameters: dict[str, Any]) -> None:
        """Change what the deployment is asked for."""
        from prefect.client.schemas.actions import DeploymentUpdate

        client.update_deployment(self.id, DeploymentUpdate(parameters=parameters))

    def fire(self, client: Any, seconds: float = 500) -> UUID:
        """Turn the cron on until it has started one run; return that."""
        (schedule,) = client.read_deployment_schedules(self.id)
        client.update_deployment_schedule(self.id, schedule.id, active=True)
        run: UUID = _wait(lambda: self._started(client), seconds, "the cron starts a run")
        client.update_deployment_schedule(self.id, schedule.id, active=False)
        self.seen.add(run)
        return run

    def _started(self, client: Any) -> UUID | None:
        for run in _runs(client, self.id):
            if run.id not in self.seen and run.state.is_running():
                return run.id  # type: ignore[no-any-return]
        return None

    def finish(self, client: Any, run: UUID) -> str:
        """Wait for the end of a run; return its page."""
        state = _wait(lambda: _final(client, run), 900, "the run ends")
        assert state.is_completed(), state
        for one in _runs(client, self.id):  # what the cron had started meanwhile
            if not one.state.is_final():
                client.delete_flow_run(one.id)
        page = max((self.workspace / "nightly" / MODEL).glob("*.html")).read_text()
        return re.sub(r"<[^>]+>", "", page)

    def embedded(self) -> dict[str, tuple[int, int]]:
        """Return the rows and the time of each file of embeddings, by what saw them first."""
        files = (self.workspace / "embeddings").glob("*/part-*.parquet")
        return {str(f): (pq.read_metadata(f).num_rows, f.stat().st_mtime_ns) for f in files}


def show_new_images(nights: Nights, client: Any) -> None:
    """The first night adapts, the second one embeds only what is new."""
    nights.add(NUM_FIRST)
    page = nights.finish(client, nights.fire(client))
    assert f"{NUM_FIRST} images, the first" in page, page
    assert _aliases()["champion"] == "1", (page, _aliases())
    _say("first night: adapted, and version 1 is the champion")

    before = nights.embedded()
    nights.add(NUM_MORE)
    page = nights.finish(client, nights.fire(client))
    assert f"{NUM_MORE} of {NUM_FIRST + NUM_MORE} images are new" in page, page
    towers = _new_rows(before, nights.embedded())
    whole = {0, NUM_MORE, NUM_HELD_OUT, NUM_MORE + NUM_HELD_OUT}  # the gate shows the last to both
    assert set(towers.values()) <= whole, towers
    assert max(towers.values()) >= NUM_MORE, towers
    _say(f"second night: of {NUM_FIRST + NUM_MORE} images the {NUM_MORE} new ones were embedded")
    _say("  the gate: " + _about_gate(page))


def show_worse_model(nights: Nights, client: Any) -> None:
    """Class names that have changed places make a model that is not promoted."""
    champion = _aliases()["champion"]
    shuffled = nights.folder / "shuffled.json"
    others = zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True)
    shuffled.write_text(json.dumps({own: [f"a photo of the {other}."] for own, other in others}))
    nights.ask(client, nights.parameters(shuffled))
    nights.add(NUM_MORE)
    page = nights.finish(client, nights.fire(client))
    _say("third night, class names have changed places: " + _about_gate(page))
    assert _aliases()["champion"] == champion, (page, _aliases())
    assert "less often right" in page, page


def show_killed_worker(nights: Nights, client: Any) -> None:
    """A worker dies with its run; the next run ends that one and goes on from its files."""
    nights.ask(client, nights.parameters())
    nights.add(NUM_MORE)
    killed = nights.fire(client)
    _wait(lambda: _is_training(nights.workspace), 600, "Phase I trains")
    _kill(nights.folder / "servers")
    time.sleep(2)
    assert client.read_flow_run(killed).state.is_running()
    _say("fourth night: the worker and its run were killed in Phase I; Prefect has it as running")
    at = time.monotonic()
    servers.up(nights.folder / "servers")
    assert client.read_flow_run(killed).state.is_crashed()
    _say(f"the worker is up again {time.monotonic() - at:.0f} s later; the killed run is Crashed")
    run = nights.fire(client, 200)  # less than a slot is held for whoever died with it
    _say(f"fifth night: begun {time.monotonic() - at:.0f} s after the kill")
    page = nights.finish(client, run)
    _say("  it went on from the files, and ended: " + _about_gate(page))
    running = nights.workspace / "running"
    _wait(lambda: not any(running.iterdir()), 120, "nobody is at work, or left as if")


PARTS = {
    "new-images": show_new_images,
    "worse-model": show_worse_model,
    "killed-worker": show_killed_worker,
}


def _about_gate(page: str) -> str:
    return next(line for line in page.splitlines() if "champion" in line)


def _new_rows(
    before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]
) -> dict[str, int]:
    """Return how many rows each tower of before has got; no file of before has changed."""
    assert before.items() <= after.items(), "files of the first night were written again"
    towers = {Path(file).parent.name for file in before}
    return {
        tower: sum(
            rows for file, (rows, _) in after.items() if file not in before and tower in file
        )
        for tower in towers
    }


def _aliases() -> dict[str, str]:
    from mlflow import MlflowClient

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return {
        name: str(number) for name, number in client.get_registered_model(MODEL).aliases.items()
    }


def _is_training(workspace: Path) -> bool:
    return any(time.time() - file.stat().st_mtime < 30 for file in _resumes(workspace))


def _resumes(workspace: Path) -> list[Path]:
    return list((workspace / "peers").glob("*/resume.safetensors"))


def _kill(folder: Path) -> None:
    worker = servers.running(folder)["worker"]
    for process in (worker, *worker.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _runs(client: Any, deployment: UUID) -> list[Any]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId

    mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    found: list[Any] = client.read_flow_runs(flow_run_filter=mine)
    return found


def _final(client: Any, run: UUID) -> Any:
    state = client.read_flow_run(run).state
    return state if state.is_final() else None


def _wait(look: Callable[[], T | None], seconds: float, what: str) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def _put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Start the servers, live through the nights, and end the servers."""
    given, parts = sys.argv[1:2], sys.argv[2:] or list(PARTS)
    folder = Path(given[0] if given else tempfile.mkdtemp(prefix="coft-nights-")).absolute()
    os.environ["COFT_PREFECT_PORT"], os.environ["COFT_MLFLOW_PORT"] = (
        str(free_port()) for _ in range(2)
    )
    try:
        os.environ.update(servers.up(folder / "servers"))
        _say("Prefect server, MLflow server and worker are up")
        from prefect import get_client

        with get_client(sync_client=True) as client:
            nights = Nights(folder)
            nights.deploy(client)
            for part in parts:
                PARTS[part](nights, client)
    finally:
        _say(f"ended: {', '.join(servers.down(folder / 'servers'))}")
    if not given:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
