"""The workers of a run: started once, replaced when they are lost, more where a node joins."""

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import ray
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError

from tasks.compute.cluster import Machine, describe, ensure_ray, has_place, living_nodes
from tasks.compute.placement import (
    CORES_OF_A_WORKER,
    SIDE_BY_SIDE,
    Node,
    Share,
    share_of,
    share_of_cores,
    share_of_rest,
)
from tasks.compute.worker import Call, Worker
from tasks.progress import say
from tasks.specs import GaveUp, RuntimeSpec

POLL_SECONDS = 2.0
SAY_AFTER, SAY_EVERY = 6.0, 30.0  # seconds until it is said that a worker waits, and between lines
LOW_MEMORY = "running low on memory"  # Ray's words where its monitor ends a process
STILL_BORN = 4  # workers one after the other that die while they start
LOST = (RayActorError, WorkerCrashedError, ObjectLostError, OutOfMemoryError)


@dataclass
class Member:
    """A worker, from the moment it is asked for; `ready` when it has loaded its libraries."""

    number: int
    share: Share
    handle: Any
    placing: Any
    loading: Any
    asked: float = field(default_factory=time.monotonic)
    node: str | None = None
    ready: bool = False
    load: int = 0

    @property
    def size(self) -> str:
        """Return what it holds, in words."""
        gpus = f" and {self.share.num_gpus:g} GPUs" if self.share.num_gpus else ""
        plural = "" if self.share.num_cpus == 1 else "s"
        return f"{self.share.num_cpus:g} CPU{plural}{gpus}"


class Workers:
    """The workers of a run on the cluster that is connected.

    Args:
        runtime: How many are wanted, and how long to wait for room.
        single_threaded: Whether each core has a worker, and none a GPU.
    """

    def __init__(self, runtime: RuntimeSpec, *, single_threaded: bool = False) -> None:
        self._runtime = runtime
        self._single_threaded = single_threaded
        self._members: list[Member] = []
        self._count = 0
        self._nodes = living_nodes()
        self._share = _share(self._nodes, runtime, single_threaded=single_threaded)
        self._limit = self._share.num_workers if single_threaded else runtime.num_actors
        self._progress = self._looked = time.monotonic()
        self._said = -SAY_EVERY
        self._still_born = 0
        self._words: set[str] = set()
        self._start(self._share)

    @property
    def device(self) -> str:
        """Return the device that models go to."""
        return self._share.device

    def suit(self, runtime: RuntimeSpec, *, single_threaded: bool) -> bool:
        """Return whether a stage that asks for workers can have these."""
        if runtime.ray_address != self._runtime.ray_address:
            return False
        asked = (runtime.num_actors, runtime.num_gpus, single_threaded)
        mine = (self._runtime.num_actors, self._runtime.num_gpus, self._single_threaded)
        return asked == mine or self._share == _share(
            self._nodes, runtime, single_threaded=single_threaded
        )

    def begin(self, runtime: RuntimeSpec) -> None:
        """Begin a stage: from now on it is counted how long nothing goes on."""
        self._runtime = runtime
        self._progress = time.monotonic()
        self.tend()

    def free(self, ahead: int) -> Member | None:
        """Return the worker with the least to do, if it may have more.

        Args:
            ahead: Calls that each may have at a time. While others are still on their way, one: or
                the first to come would take what is theirs.
        """
        ready = [member for member in self._members if member.ready]
        most = ahead if len(ready) == len(self._members) else 1
        best = min(ready, key=lambda member: member.load, default=None)
        return best if best is not None and best.load < most else None

    def give(self, member: Member, call: Call) -> Any:
        """Hand a call to a worker, and return the reference of its result."""
        member.load += 1
        return member.handle.do.remote(call)

    def took(self, member: Member, words: Sequence[str] = ()) -> None:
        """Note that a call has ended, and say what its worker had to say, once for all workers."""
        member.load -= 1
        self._progress = time.monotonic()
        for text in words:
            if text not in self._words:
                self._words.add(text)
                say(text)

    def wait(self, running: Sequence[Any]) -> list[Any]:
        """Wait until some of the calls have ended, and return which; look after workers meanwhile.

        Raises:
            GaveUp: for as long as a person wants to wait there was no worker.
        """
        pending = [member for member in self._members if not member.ready]
        coming = [member.loading if member.node else member.placing for member in pending]
        references = [*running, *coming]
        ready, _ = (
            ray.wait(references, num_returns=1, timeout=POLL_SECONDS) if references else ([], 0)
        )
        self.tend()
        return [reference for reference in ready if reference in set(running)]

    def tend(self) -> None:
        """Welcome workers that have come, ask for others where nodes came or went, say who waits.

        Raises:
            GaveUp: for as long as a person wants to wait there was no worker.
        """
        for member in [member for member in self._members if not member.ready]:
            self._welcome(member)
        if time.monotonic() - self._looked >= POLL_SECONDS:
            self._look_at_nodes()
            self._say_who_waits()

    def lose(self, member: Member, error: BaseException) -> None:
        """Do without a worker whose process or node has gone, and ask for another one."""
        if member not in self._members:
            return
        self._still_born += not member.ready
        if self._still_born == STILL_BORN:
            raise GaveUp(f"The workers die while they start: {error}")
        if LOW_MEMORY in str(error):
            self._limit = max(1, len(self._members) - 1)
            say(f"Worker {member.number} ran out of memory; going on with fewer workers.")
        elif member.ready:
            say(f"Worker {member.number} has died; another one goes on with its work.")
        else:
            say(f"Worker {member.number} was lost while it started; another one is asked for.")
        self._part_with(member)
        self._nodes = living_nodes()
        self._top_up()

    @property
    def are_one(self) -> bool:
        """Return whether there is but one worker."""
        return len(self._members) == 1

    def drop(self, members: Collection[Member]) -> None:
        """End workers that are busy with what nobody wants any more; others take their place."""
        busy = [member for member in self._members if member in members]
        for member in busy:
            self._part_with(member)
        if busy:
            self._top_up()

    def stop(self) -> None:
        """End all workers."""
        for member in list(self._members):
            self._part_with(member)

    # --- who is there -----------------------------------------------------------------------------

    def _start(self, share: Share) -> None:
        remote: Any = ray.remote(
            num_cpus=share.num_cpus, num_gpus=share.num_gpus, scheduling_strategy="SPREAD"
        )(Worker)
        for _ in range(share.num_workers):
            self._count += 1
            handle = remote.remote(share.device, max(1, int(share.num_cpus)))
            placing, loading = handle.node.remote(), handle.load.remote()
            self._members.append(Member(self._count, share, handle, placing, loading))

    def _welcome(self, member: Member) -> None:
        try:
            if member.node is None and _is_done(member.placing):
                member.node = ray.get(member.placing)
            if member.node is not None and _is_done(member.loading):
                ray.get(member.loading)
                member.ready = True
                self._still_born = 0
                self._progress = time.monotonic()
        except LOST as error:
            self.lose(member, error)

    def _part_with(self, member: Member) -> None:
        self._members.remove(member)
        ray.kill(member.handle)

    def _look_at_nodes(self) -> None:
        self._looked = time.monotonic()
        before, self._nodes = self._nodes, living_nodes()
        if before.keys() == self._nodes.keys():
            return
        for member in [member for member in self._members if member.node not in self._nodes]:
            if member.node is not None:
                say(f"Worker {member.number} is lost with its node; its work goes on elsewhere.")
                self._part_with(member)
        self._top_up()

    def _top_up(self) -> None:
        """Ask for as many workers as the nodes have room for beside those that have a place."""
        placed = [member for member in self._members if member.node is not None]
        for member in [member for member in self._members if member.node is None]:
            self._part_with(member)
        wanted = None if self._limit is None else self._limit - len(placed)
        share = share_of_rest(
            [_rest(key, machine.total, placed) for key, machine in self._nodes.items()],
            self._share.num_gpus,
            at_least=SIDE_BY_SIDE - len(placed),
            at_most=wanted,
            cores=1 if self._single_threaded else CORES_OF_A_WORKER,
        )
        if share.num_workers:
            self._start(share)
        elif not placed:
            self._start(Share(1, self._share.num_cpus, self._share.num_gpus))

    # --- who waits --------------------------------------------------------------------------------

    def _say_who_waits(self) -> None:
        now = time.monotonic()
        waiting = [member for member in self._members if member.node is None]
        anyone = any(member.ready for member in self._members)
        if not waiting:
            return
        if now - self._progress > 60 * self._runtime.wait_minutes and not anyone:
            raise GaveUp(
                f"Waited {self._runtime.wait_minutes:g} minutes for {self._wish(waiting)}. What is "
                "finished is kept: run the same command again when there is room, or raise "
                "--wait-minutes."
            )
        since = min(member.asked for member in waiting)
        if now - since < SAY_AFTER or now - self._said < SAY_EVERY:
            return
        if waiting := [member for member in waiting if not has_place(member.handle)]:
            self._said = now
            going_on = "" if not anyone else f" Going on with {len(self._members) - len(waiting)}."
            say(f"Waiting for {self._wish(waiting)}.{going_on}")

    def _wish(self, waiting: Sequence[Member]) -> str:
        who = "a worker" if len(waiting) == 1 else f"{len(waiting)} workers, each"
        return f"{who} with {waiting[0].size}; {describe(self._nodes.values())}"


def _is_done(reference: Any) -> bool:
    ready, _ = ray.wait([reference], timeout=0)
    return bool(ready)


def _rest(key: str, total: Node, placed: Sequence[Member]) -> Node:
    """Return what a node has beside the workers on it."""
    here = [member.share for member in placed if member.node == key]
    return Node(
        total.cpus - sum(share.num_cpus for share in here),
        total.gpus - sum(share.num_gpus for share in here),
    )


_current: Workers | None = None
_starting: Future[Workers] | None = None


def start_early(runtime: RuntimeSpec) -> None:
    """Start Ray and the workers of a run in the background, while its input is looked at.

    Where the process has workers, or they are on their way, the stage that needs them decides.
    """
    global _starting  # noqa: PLW0603  # one set of workers for a process
    if _starting is not None or (_current is not None and ray.is_initialized()):
        return
    starting: Future[Workers] = Future()
    _starting = starting

    def start() -> None:
        try:
            starting.set_result(_start_workers(runtime))
        except BaseException as error:  # noqa: BLE001  # raised where the workers are needed
            starting.set_exception(error)
        # Ray's processes end when the thread that started them does.
        Event().wait()

    Thread(target=start, name="coft-workers", daemon=True).start()


def workers_of(runtime: RuntimeSpec, *, single_threaded: bool = False) -> Workers:
    """Return the workers of this process; start them, where they are not there yet.

    Args:
        runtime: How many are wanted, and where.
        single_threaded: Whether each core shall have a worker, and none a GPU.
    """
    global _current, _starting  # noqa: PLW0603  # one set of workers for a process
    if _starting is not None:
        started, _starting = _starting, None
        _current = started.result()
    if (
        _current is None
        or not ray.is_initialized()
        or not _current.suit(runtime, single_threaded=single_threaded)
    ):
        stop_workers()
        _current = _start_workers(runtime, single_threaded=single_threaded)
    return _current


def stop_workers() -> None:
    """End the workers of this process, if there are any; the next stage starts others."""
    global _current  # noqa: PLW0603  # one set of workers for a process
    if _current is not None and ray.is_initialized():
        _current.stop()
    _current = None


def _start_workers(runtime: RuntimeSpec, *, single_threaded: bool = False) -> Workers:
    ensure_ray(runtime)
    return Workers(runtime, single_threaded=single_threaded)


def _share(nodes: Mapping[str, Machine], runtime: RuntimeSpec, *, single_threaded: bool) -> Share:
    every = [machine.total for machine in nodes.values()]
    return share_of_cores(every) if single_threaded else share_of(every, runtime)
