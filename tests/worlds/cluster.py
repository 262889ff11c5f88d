"""A Ray cluster of several nodes on this machine, and a program that works on it.

`python -m tests.worlds.cluster` is the cluster: it prints its address, and is told on standard
input which nodes to add and to kill. A process of its own, because a Ray that already runs in the
process of the tests would change how the nodes start.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STORE = 80 * 2**20  # bytes of each node's object store


class Nodes:
    """The nodes of a cluster beside its head; each can be killed as if its plug were pulled."""

    def __init__(self, cluster: subprocess.Popen[str]) -> None:
        self._cluster = cluster
        self.address = self._answer()

    def add(self, name: str, **resources: float) -> None:
        """Start a node, and wait until the cluster knows it."""
        self._tell("add", name, resources)

    def kill(self, name: str) -> None:
        """Kill a node's raylet; its workers go with it."""
        self._tell("kill", name, {})

    def _tell(self, verb: str, name: str, resources: dict[str, float]) -> None:
        assert self._cluster.stdin is not None
        self._cluster.stdin.write(json.dumps([verb, name, resources]) + "\n")
        self._cluster.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._cluster.stdout is not None
        for line in self._cluster.stdout:
            if line.startswith(ANSWER):
                return line.removeprefix(ANSWER).strip()
        pytest.fail("the cluster has ended")


ANSWER = "cluster: "


@contextmanager
def ray_cluster(**head: float) -> Iterator[Nodes]:
    """Start a cluster whose head has these resources, for the time of a block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.worlds.cluster", json.dumps(head)],
        cwd=ROOT,
        env=without_token(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as cluster:
        yield Nodes(cluster)


class Occupant:
    """Holds cores, as another person's job does."""

    def node(self) -> str:
        return "here"


def occupy(num_cpus: int) -> Any:
    """Hold cores of the cluster that this process is connected to, until `ray.kill`."""
    import ray

    occupant = ray.remote(num_cpus=num_cpus)(Occupant).remote()
    ray.get(occupant.node.remote(), timeout=60)
    return occupant


def without_token() -> dict[str, str]:
    """Return the environment of a program that asks no Ray for a token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return {**kept, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}


@contextmanager
def program(
    words: list[str], log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program from the root of the project; all that it says goes to a file."""
    environment = {**without_token(), **(variables or {})}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(30)


def wait_for_line(process: subprocess.Popen[bytes], log: Path, text: str, seconds: float) -> str:
    """Wait until a program has said something, and return all that it said so far."""
    deadline = time.monotonic() + seconds
    while text not in (said := log.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{text!r} was never said:\n{said[-3000:]}")
        time.sleep(0.1)
    return said


def main() -> None:
    """Be a cluster until standard input ends."""
    from ray.cluster_utils import Cluster

    head = {**json.loads(sys.argv[1]), "include_dashboard": False, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = {}
    _say(cluster.address)
    for line in sys.stdin:
        verb, name, resources = json.loads(line)
        if verb == "add":
            resources["object_store_memory"] = STORE
            nodes[name] = cluster.add_node(node_name=name, **resources)
        else:
            cluster.remove_node(nodes.pop(name), allow_graceful=False)
        _say("done")
    cluster.shutdown()


def _say(text: str) -> None:
    sys.stdout.write(f"{ANSWER}{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
