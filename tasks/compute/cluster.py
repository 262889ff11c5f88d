"""Ray: join or start it, and what its nodes have."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import state

from infra import offline, shared_memory
from infra.interrupts import kept_handlers
from tasks.compute.placement import Node
from tasks.specs import RuntimeSpec


@dataclass(frozen=True)
class Machine:
    """A living node of the cluster: its name, all that it has, and what is not taken of that."""

    name: str
    total: Node
    free: Node


def ensure_ray(runtime: RuntimeSpec) -> None:
    """Join the cluster at `ray_address`, or start one in this process; do nothing when connected.

    What this process did not start it never shuts down; what it started ends with the process.
    """
    if ray.is_initialized():
        return
    # Of several calls that fail, the caller hears of the first; Ray would log each of the others.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    if runtime.ray_address:
        environment = {"env_vars": offline.quiet_environment()}
        with offline.own_words(), kept_handlers():
            ray.init(
                address=runtime.ray_address,
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        return
    start_ray()


def start_ray(**options: Any) -> None:
    """Start Ray on this machine, on loopback alone; it ends with this process.

    Args:
        options: Other arguments of `ray.init`.
    """
    store = shared_memory.store_options(offline.ray_folder())
    # `local_ray` sets the switches that workers inherit.
    with offline.local_ray(), offline.own_words(), kept_handlers():
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **{**store, **options},
        )


def living_nodes() -> dict[str, Machine]:
    """Return the living nodes of the cluster by their ids."""
    free = state.available_resources_per_node()
    return {
        node["NodeID"]: Machine(
            node["NodeName"],
            _size(node["Resources"]),
            _size(free.get(node["NodeID"], {})),
        )
        for node in ray.nodes()
        if node["Alive"]
    }


def has_place(actor: Any) -> bool:
    """Return whether an actor has a process on a node, that may still be on its way."""
    return bool(state.actors(actor._actor_id.hex()).get("Pid"))  # noqa: SLF001  # no public way


def describe(machines: Iterable[Machine], *, most: int = 4) -> str:
    """Return what each node has left, in words."""
    every = list(machines)
    texts = [f"{machine.name} has {_left(machine)} free" for machine in every[:most]]
    if len(every) > most:
        texts.append(f"and {len(every) - most} more nodes")
    return "; ".join(texts) or "no node is there"


def _left(machine: Machine) -> str:
    total, free = machine.total, machine.free
    gpus = f" and {free.gpus:g} of {total.gpus:g} GPUs" if total.gpus else ""
    return f"{free.cpus:g} of {total.cpus:g} CPUs{gpus}"


def _size(resources: dict[str, float]) -> Node:
    return Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0))
