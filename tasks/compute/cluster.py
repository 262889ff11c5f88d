"""Ray: join or start it, check what a stage asks for, and run work with a bound on it in flight."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayTaskError

from infra import offline
from tasks.compute.placement import Share
from tasks.progress import say
from tasks.specs import RuntimeSpec

POLL_SECONDS = 5.0
IN_FLIGHT_PER_ACTOR = 2  # one at work, one waiting: the actor never idles, memory stays bounded
RETRIES = 3
SPARE_WORKERS = 4  # processes that may wait for tasks while actors hold the cores


def ensure_ray(runtime: RuntimeSpec) -> None:
    """Join the cluster at `ray_address`, or start one in this process; do nothing when connected.

    What this process did not start it never shuts down; what it started ends with the process.
    """
    if ray.is_initialized():
        return
    # Of several items that fail, the caller hears of the first; Ray would log each of the others.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    if runtime.ray_address:
        environment = {"env_vars": offline.quiet_environment()}
        ray.init(address=runtime.ray_address, runtime_env=environment, log_to_driver=False)
        return
    start_ray()


def start_ray(**options: Any) -> None:
    """Start Ray on this machine, on loopback alone; it ends with this process.

    By itself Ray ends the workers of one stage when the actors of the next outnumber the cores, and
    every new worker takes seconds to load PyTorch. Here some stay.

    Args:
        options: Other arguments of `ray.init`.
    """
    workers = (os.cpu_count() or 1) + SPARE_WORKERS
    with offline.local_ray():  # which sets the switches that workers inherit
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _system_config={"num_workers_soft_limit": workers},
            **options,
        )


def gpus_of_cluster(runtime: RuntimeSpec) -> float:
    """Return how many GPUs the cluster has."""
    ensure_ray(runtime)
    return float(ray.cluster_resources().get("GPU", 0.0))


def run_tasks(
    function: Callable[..., Any],
    items: Sequence[tuple[Any, ...]],
    *,
    runtime: RuntimeSpec,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> Iterator[tuple[int, Any]]:
    """Run a function once per item, anywhere in the cluster; yield (position, result) as they end.

    At most two items per core are in flight. A lost worker is replaced and its item is run again,
    so the function must be idempotent. Its own exceptions reach the caller as they are.
    """
    ensure_ray(runtime)
    remote: Any = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=RETRIES)(function)
    width = max(2, int(2 * ray.cluster_resources().get("CPU", 1) / num_cpus))
    waiting = deque(enumerate(items))
    running: dict[Any, int] = {}
    while waiting or running:
        while waiting and len(running) < width:
            position, item = waiting.popleft()
            running[remote.remote(*item)] = position
        for reference in _finished(running):
            yield running.pop(reference), result(reference)


@contextmanager
def actors(
    actor_class: type, arguments: Iterable[tuple[Any, ...]], share: Share
) -> Iterator[list[Any]]:
    """Start one actor per argument tuple for the time of the block; a dead one is restarted.

    Ray gives each as many threads as it holds cores, unless `OMP_NUM_THREADS` says otherwise.
    """
    remote: Any = ray.remote(
        num_cpus=share.num_cpus,
        num_gpus=share.num_gpus,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
        scheduling_strategy="SPREAD",
    )(actor_class)
    started = [remote.remote(*values) for values in arguments]
    try:
        yield started
    finally:
        for actor in started:
            ray.kill(actor)


def run_on_actors(
    pool: Sequence[Any], method: str, items: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[int, Any]]:
    """Hand items to whichever actor is free; yield (position, result) as they end.

    When an actor's node runs out of memory, that actor gets no more work and the others go on.
    """
    free = deque(actor for _ in range(IN_FLIGHT_PER_ACTOR) for actor in pool)
    waiting = deque(enumerate(items))
    running: dict[Any, tuple[int, Any]] = {}
    retired: set[Any] = set()
    while waiting or running:
        while waiting and free:
            actor = free.popleft()
            position, item = waiting.popleft()
            running[getattr(actor, method).remote(*item)] = (position, actor)
        for reference in _finished(running):
            position, actor = running.pop(reference)
            try:
                value = result(reference)
            except OutOfMemoryError:
                retired.add(actor)
                if len(retired) == len(pool):
                    raise
                say("A worker ran out of memory; going on with fewer workers.")
                waiting.append((position, items[position]))
                free = deque(other for other in free if other not in retired)
                continue
            if actor not in retired:
                free.append(actor)
            yield position, value


def _finished(running: dict[Any, Any]) -> list[Any]:
    ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SECONDS)
    return list(ready)


def result(reference: Any) -> Any:
    """Return a finished result; raise what the worker raised, without Ray's wrapping."""
    try:
        return ray.get(reference)
    except OutOfMemoryError:
        raise
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
