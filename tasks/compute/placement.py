"""How many actors a stage gets, and what each asks for: by node sizes, not by their sum."""

from collections.abc import Sequence
from dataclasses import dataclass

import ray

from tasks.progress import say
from tasks.specs import InputError, RuntimeSpec

CORES_OF_AN_ACTOR = 8  # on CPU nodes: more threads than that a forward pass hardly uses


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has in all, whether it is in use or not."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Share:
    """What each actor of a stage holds while it lives."""

    num_actors: int
    num_cpus: float
    num_gpus: float

    @property
    def device(self) -> str:
        """Return the torch device that the actor works on."""
        return "cuda" if self.num_gpus else "cpu"


def shares(runtime: RuntimeSpec, *, most: int | None = None, split: int = 1) -> Share:
    """Return how many actors a stage gets on the cluster that is connected; see `share_of`."""
    nodes = [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]
    return share_of(nodes, runtime, most=most, split=split)


def share_of(
    nodes: Sequence[Node], runtime: RuntimeSpec, *, most: int | None = None, split: int = 1
) -> Share:
    """Return how many actors a stage gets and what each asks for, so that nodes can hold them all.

    Each GPU gets an actor; without GPUs each node gets one for every eight cores. What an actor
    asks for beside its GPU is the largest number of cores with which all of them fit. More actors
    than there is room for would wait for ever; there are fewer, and the person reads so.

    Args:
        nodes: The machines of the cluster.
        runtime: May fix the number of actors and the GPUs of each.
        most: The most actors that the stage can use.
        split: Into how many a single device is divided when the stage needs actors side by side.

    Raises:
        InputError: more GPUs are asked for than there are, or than a node has.
    """
    gpus = _gpus_of_each(nodes, runtime, split)
    room = sum(_room(node, gpus=gpus) for node in nodes)
    if gpus:
        wanted = runtime.num_actors or room
    else:
        by_cores = (max(1, int(node.cpus) // CORES_OF_AN_ACTOR) for node in nodes if node.cpus)
        wanted = runtime.num_actors or max(split, sum(by_cores))
    number = max(1, min(wanted, room, most or wanted))
    if runtime.num_actors and runtime.num_actors > room:
        say(f"There is room for {room} actors, not for {runtime.num_actors}: going on with these.")
    return Share(number, _cpus_of_each(nodes, number, gpus), gpus)


def _gpus_of_each(nodes: Sequence[Node], runtime: RuntimeSpec, split: int) -> float:
    """Return the GPUs of an actor: those asked for, one, or a part of one; none without any."""
    total = sum(node.gpus for node in nodes)
    number = runtime.num_actors or 1
    if runtime.num_gpus:
        if sum(int(node.gpus / runtime.num_gpus) for node in nodes) < number:
            raise InputError(
                f"Asked for {number} actors with {runtime.num_gpus:g} GPUs each, but the Ray "
                f"cluster has {total:g} on {len(nodes)} nodes. Lower --num-gpus or --num-actors, "
                "or name a cluster with --ray-address."
            )
        return runtime.num_gpus
    if not total:
        return 0.0
    return 1.0 if total >= split else total / split


def _room(node: Node, *, gpus: float, cpus: float = 0.0) -> int:
    """Return how many actors a node holds; without GPUs each takes a core at least."""
    if gpus:
        by_gpus = int(node.gpus / gpus + 1e-9)
        return min(by_gpus, int(node.cpus / cpus + 1e-9)) if cpus else by_gpus
    return int(node.cpus / (cpus or 1.0) + 1e-9)


def _cpus_of_each(nodes: Sequence[Node], number: int, gpus: float) -> float:
    """Return the most cores with which the nodes hold so many actors, whole ones from one on."""
    sizes = {node.cpus / count for node in nodes if node.cpus for count in range(1, number + 1)}
    for cpus in sorted(sizes, reverse=True):
        whole = float(int(cpus)) if cpus >= 1 else cpus
        if sum(_room(node, gpus=gpus, cpus=whole) for node in nodes) >= number:
            return whole
    return 1.0
