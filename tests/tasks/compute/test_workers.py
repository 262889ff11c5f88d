"""The workers of a run on real Rays: they wait in words, come back, and follow the nodes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray

from infra import interrupts
from tasks.compute import workers as workers_module
from tasks.compute.calls import run_tasks
from tasks.compute.workers import start_early, stop_workers, workers_of
from tasks.specs import GaveUp, InputError, RuntimeSpec
from tests.worlds.cluster import ROOT, occupy, program, ray_cluster, wait_for_line

ON_A_CLUSTER = """
import sys, time
from pathlib import Path
from infra import offline

offline.apply()
import ray
from tasks.compute.calls import run_tasks
from tasks.specs import GaveUp, RuntimeSpec

def where(stop):
    time.sleep(0.3)
    return ray.get_runtime_context().get_node_id()

stop, address = sys.argv[1:]
def items():
    while not Path(stop).exists():
        yield (stop,)

seen = set()
try:
    runtime = RuntimeSpec(ray_address=address, wait_minutes=0.5)
    for position, node in run_tasks(where, items(), runtime=runtime):
        if node not in seen:
            seen.add(node)
            print("node", len(seen), flush=True)
except GaveUp as error:
    print("gave up:", error, flush=True)
"""

WAITING = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # that the tests may ignore
    signal.signal(number, signal.SIG_DFL)
from infra import interrupts, offline

interrupts.listen()
offline.apply()
from tasks.compute import workers
from tasks.compute.calls import run_tasks
from tasks.compute.cluster import start_ray
from tasks.specs import RuntimeSpec
from tests.worlds.cluster import occupy

workers.SAY_AFTER = 0.5
start_ray(num_cpus=1, object_store_memory=128 * 2**20)
occupant = occupy(1)
try:
    list(run_tasks(print, [(0,)], runtime=RuntimeSpec()))
except KeyboardInterrupt:
    interrupts.end()
"""


@pytest.fixture
def fresh_workers(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the workers of the session, and be quick to say who waits."""
    monkeypatch.setattr(workers_module, "SAY_AFTER", 0.5)
    monkeypatch.setattr(workers_module, "SAY_EVERY", 0.5)
    monkeypatch.setattr(workers_module, "POLL_SECONDS", 0.2)
    stop_workers()


def squares(runtime: RuntimeSpec) -> list[tuple[int, int]]:
    return sorted(run_tasks(lambda n: n**2, [(n,) for n in range(4)], runtime=runtime))


SQUARES = [(n, n**2) for n in range(4)]


def test_who_waits_for_room_says_so_and_gives_up(
    fresh_workers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    occupant = occupy(2)
    try:
        with pytest.raises(GaveUp, match=r"Waited 0\.03 minutes.*run the same command again"):
            squares(RuntimeSpec(wait_minutes=0.03))
    finally:
        ray.kill(occupant)
    said = capsys.readouterr().err.splitlines()
    assert len(said) >= 2
    assert "Waiting for 2 workers, each with 1 CPU; " in said[0]
    assert "has 0 of 2 CPUs free." in said[0]
    assert squares(RuntimeSpec()) == SQUARES


def test_who_waits_for_room_can_be_stopped() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert "Waiting for a worker with 1 CPU" in process.stderr.readline()
        process.terminate()
        said = process.stderr.read().splitlines()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert said[-1] == interrupts.WORDS
    assert all(line.startswith("Waiting for") for line in said[:-1])


def test_room_that_is_made_is_taken(
    fresh_workers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    occupant = occupy(2)
    threading.Timer(1.5, lambda: ray.kill(occupant)).start()
    assert squares(RuntimeSpec(wait_minutes=3)) == SQUARES
    assert "Waiting for" in capsys.readouterr().err


def test_what_one_worker_can_do_waits_for_nobody(fresh_workers: None) -> None:
    occupant = occupy(1)
    try:
        assert squares(RuntimeSpec(wait_minutes=0.5)) == SQUARES
    finally:
        ray.kill(occupant)


def test_workers_that_die_while_they_start_end_the_run(
    fresh_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Frail(workers_module.Worker):
        def load(self) -> None:
            os._exit(1)

    monkeypatch.setattr(workers_module, "Worker", Frail)
    with pytest.raises(GaveUp, match="die while they start"):
        squares(RuntimeSpec())
    stop_workers()


def test_workers_started_early_are_those_of_the_run(fresh_workers: None) -> None:
    runtime = RuntimeSpec()
    start_early(runtime)
    early = workers_of(runtime)
    assert squares(runtime) == SQUARES
    assert workers_of(runtime) is early
    assert workers_of(runtime, single_threaded=True) is early, "on two cores they are the same"
    alone = workers_of(RuntimeSpec(num_actors=1))
    assert alone is not early
    assert alone.are_one


def test_what_is_wrong_with_an_early_start_is_told_where_it_is_needed(
    fresh_workers: None,
) -> None:
    start_early(RuntimeSpec(num_gpus=1))
    with pytest.raises(InputError, match="1 workers with 1 GPUs each"):
        workers_of(RuntimeSpec(num_gpus=1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_work_follows_the_nodes_that_come_and_go(tmp_path: Path) -> None:
    """Two nodes, a third joins, all are killed one by one; nobody tells the run."""
    log, stop = tmp_path / "log", tmp_path / "stop"
    script = tmp_path / "script.py"
    script.write_text(ON_A_CLUSTER)
    with ray_cluster(num_cpus=0) as nodes:
        nodes.add("one", num_cpus=2)
        words = [str(script), str(stop), nodes.address]
        with program(words, log) as process:
            wait_for_line(process, log, "node 1", 120)
            nodes.add("two", num_cpus=2)
            wait_for_line(process, log, "node 2", 120)
            nodes.kill("one")
            time.sleep(1)
            nodes.add("three", num_cpus=2)
            wait_for_line(process, log, "node 3", 120)
            nodes.kill("two")
            nodes.kill("three")
            said = wait_for_line(process, log, "gave up: Waited 0.5 minutes for", 120)
            stop.touch()
            process.wait(60)
    assert "goes on" in said
    assert "Waiting for" in said
    assert "Traceback" not in said
    assert "raylet" not in said
