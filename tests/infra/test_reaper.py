"""A local Ray whose processes are killed, one by one."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra import interrupts
from infra.reaper import RAYLET, SERVER
from tests.worlds.processes import Family

ROOT = Path(__file__).parents[2]
# What the tests ignore, as in the background of a shell, a child ignores too.
PROGRAM = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
import sys, time
from infra import interrupts, offline
interrupts.listen()
offline.apply()
import ray
from tasks.compute.cluster import start_ray
start_ray(num_cpus=1, object_store_memory=128 * 2**20)
try:
    if sys.argv[1] == "ends":
        ray.shutdown()
    print("ready", flush=True)
    time.sleep(2 if sys.argv[1] == "ends" else 60)
except KeyboardInterrupt:
    interrupts.end()
"""


def kill_child(pid: int, words: str) -> None:
    """Kill the child of a process that has words in its command line."""
    (child,) = [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if words in " ".join(child.cmdline()[:3])
    ]
    child.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "words"), [(RAYLET, "/raylet"), (SERVER, "/gcs_server"), ("reaper", "read group")]
)
def test_a_command_ends_with_what_ray_cannot_do_without(victim: str, words: str) -> None:
    """Not with its reaper, whose end is of no consequence but that it reaps no more."""
    family = Family()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, victim],
        cwd=ROOT,
        env=family.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        kill_child(process.pid, words)
        if victim == "reaper":
            process.terminate()
        _, said = process.communicate(timeout=100)
    told = f"coft: Ray's {victim} of this run has died. What is finished is kept; the same command"
    if victim == "reaper":
        assert (process.returncode, said) == (143, f"{interrupts.WORDS}\n")
    else:
        assert (process.returncode, said) == (1, f"{told} goes on from there.\n")
    assert family.survivors() == []


@pytest.mark.slow
def test_a_ray_that_is_shut_down_ends_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "ends"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("ready\n", "")
