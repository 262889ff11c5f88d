"""How many workers a run gets, and what each asks for: by node sizes, not by their sum."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.progress import say
from tasks.specs import InputError, RuntimeSpec

CORES_OF_A_WORKER = 8  # on CPU nodes: more threads than that a forward pass hardly uses
SIDE_BY_SIDE = 2  # both peers train at the same time where there is any room for two


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has, in all or left over."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Share:
    """What each worker of a run holds while it lives, and how many of them there are."""

    num_workers: int
    num_cpus: float
    num_gpus: float

    @property
    def device(self) -> str:
        """Return the torch device that a worker works on."""
        return "cuda" if self.num_gpus else "cpu"


def share_of_cores(nodes: Sequence[Node]) -> Share:
    """Return a worker for each core, for work that uses one thread and no GPU."""
    return Share(max(1, sum(_room(node, gpus=0) for node in nodes)), 1, 0)


def share_of(nodes: Sequence[Node], runtime: RuntimeSpec) -> Share:
    """Return how many workers a run gets and what each asks for, so that nodes can hold them all.

    Each GPU gets a worker, a single one two that share it; without GPUs each node gets one for
    every eight cores, a single small node two. What a worker asks for beside its GPU is the largest
    number of cores with which all of them fit. More workers than there is room for would wait for
    ever; there are fewer, and the person reads so.

    Args:
        nodes: The machines of the cluster, with all that they have.
        runtime: May fix the number of workers and the GPUs of each.

    Raises:
        InputError: more GPUs are asked for than there are, or than a node has.
    """
    gpus = _gpus_of_each(nodes, runtime)
    room = sum(_room(node, gpus=gpus) for node in nodes)
    wanted = runtime.num_actors or max(SIDE_BY_SIDE, _by_size(nodes, gpus))
    if runtime.num_actors and runtime.num_actors > room:
        say(f"There is room for {room} workers, not for {runtime.num_actors}: going on with these.")
    number = max(1, min(wanted, room))
    return Share(number, _cpus_of_each(nodes, number, gpus), gpus)


def share_of_rest(
    nodes: Sequence[Node],
    gpus: float,
    *,
    at_least: int,
    at_most: int | None,
    cores: int = CORES_OF_A_WORKER,
) -> Share:
    """Return the workers that what is left over can hold beside those that are there; maybe none.

    Args:
        nodes: What the machines have left.
        gpus: GPUs of each worker, as of those that are there.
        at_least: Workers that are wanted although the cores are few.
        at_most: Workers that are wanted at all; None for as many as there is room for.
        cores: Of a CPU node for which it gets a worker.
    """
    room = sum(_room(node, gpus=gpus) for node in nodes)
    number = min(room, max(at_least, _by_size(nodes, gpus, cores)))
    number = number if at_most is None else min(number, at_most)
    if number < 1:
        return Share(0, 0, gpus)
    return Share(number, _cpus_of_each(nodes, number, gpus), gpus)


def _by_size(nodes: Sequence[Node], gpus: float, cores: int = CORES_OF_A_WORKER) -> int:
    """Return one worker for each GPU (or part of one), or for so many cores of each node."""
    if gpus:
        return sum(_room(node, gpus=gpus) for node in nodes)
    return sum(max(1, int(node.cpus) // cores) for node in nodes if node.cpus >= 1)


def _gpus_of_each(nodes: Sequence[Node], runtime: RuntimeSpec) -> float:
    """Return the GPUs of a worker: those asked for, one, or a part of one; none without any."""
    total = sum(node.gpus for node in nodes)
    number = runtime.num_actors or 1
    if runtime.num_gpus:
        if sum(int(node.gpus / runtime.num_gpus) for node in nodes) < number:
            raise InputError(
                f"Asked for {number} workers with {runtime.num_gpus:g} GPUs each, but the Ray "
                f"cluster has {total:g} on {len(nodes)} nodes. Lower --num-gpus or --num-actors, "
                "or name a cluster with --ray-address."
            )
        return runtime.num_gpus
    if not total:
        return 0.0
    side_by_side = min(SIDE_BY_SIDE, runtime.num_actors or SIDE_BY_SIDE)
    return 1.0 if total >= side_by_side else total / side_by_side


def _room(node: Node, *, gpus: float, cpus: float = 0.0) -> int:
    """Return how many workers a node holds; without GPUs each takes a core at least."""
    if gpus:
        by_gpus = int(node.gpus / gpus + 1e-9)
        return min(by_gpus, int(node.cpus / cpus + 1e-9)) if cpus else by_gpus
    return int(node.cpus / (cpus or 1.0) + 1e-9)


def _cpus_of_each(nodes: Sequence[Node], number: int, gpus: float) -> float:
    """Return the most cores with which the nodes hold so many workers, whole ones from one on."""
    sizes = {node.cpus / count for node in nodes if node.cpus for count in range(1, number + 1)}
    for cpus in sorted(sizes, reverse=True):
        whole = float(int(cpus)) if cpus >= 1 else cpus
        if sum(_room(node, gpus=gpus, cpus=whole) for node in nodes) >= number:
            return whole
    return 1.0
