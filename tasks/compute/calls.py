"""Work on the workers of a run: calls one by one, and chains of calls that stay with one worker."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.exceptions import OutOfMemoryError, RayTaskError

from tasks.compute.worker import Answer, Call, Held
from tasks.compute.workers import LOST, Member, Workers, workers_of
from tasks.specs import GaveUp, RuntimeSpec

IN_FLIGHT = 2  # calls of a worker: one at work, one waiting, so that it never idles
ATTEMPTS = 3  # of a call that loses its worker each time, however long they take

Chain = Generator[Call, Any, Any]
"""Yields a call and is sent its result, at least once; what it returns is its own result."""


def run_tasks(
    function: Callable[..., Any],
    items: Iterable[tuple[Any, ...]],
    *,
    runtime: RuntimeSpec,
    single_threaded: bool = False,
) -> Iterator[tuple[int, Any]]:
    """Call a function once per item, in any worker; yield (position, result) as they end.

    At most two items per worker are in flight. The item of a lost worker is run again, so the
    function must be idempotent. Its own exceptions reach the caller as they are.

    Args:
        function: Called as `function(*item)`.
        items: Taken as workers have room for them.
        runtime: Where to run.
        single_threaded: Whether a call uses one core, so that each core has a worker.
    """
    workers = workers_of(runtime, single_threaded=single_threaded)
    chains = (_once(function, item) for item in items)
    return _Board(chains, workers, runtime, IN_FLIGHT).results()


def run_on_held(
    held: Held, method: str, items: Iterable[tuple[Any, ...]], *, runtime: RuntimeSpec
) -> Iterator[tuple[int, Any]]:
    """As `run_tasks`, for a method of something that each worker makes once and keeps."""
    chains = (_once(method, item, held) for item in items)
    return _Board(chains, workers_of(runtime), runtime, IN_FLIGHT).results()


def device_of(runtime: RuntimeSpec) -> str:
    """Return the device that the workers of a run put models on: `cpu` or `cuda`."""
    return workers_of(runtime).device


def run_chains(chains: Iterable[Chain], runtime: RuntimeSpec) -> Iterator[tuple[int, Any]]:
    """Run chains of calls side by side; yield (position, what the chain returns) as they end.

    A worker has one chain at a time, and all its calls, as long as the worker lives.

    Args:
        chains: Begun one after the other, as workers have room for them.
        runtime: Where to run.

    Raises:
        GaveUp: there was no worker, or each one that got a call was lost, for too long.
    """
    return _Board(chains, workers_of(runtime), runtime, 1).results()


def _once(
    target: Callable[..., Any] | str, item: tuple[Any, ...], held: Held | None = None
) -> Chain:
    result = yield Call(target, (*item,), held)
    return result


@dataclass
class _Work:
    """A chain, the call that it waits for, and how often that call has lost its worker."""

    position: int
    chain: Chain
    call: Call
    losses: int = 0
    first_loss: float = 0.0


class _Board:
    """Who does what: chains that nobody has begun, calls under way, and calls to give again."""

    def __init__(
        self, chains: Iterable[Chain], workers: Workers, runtime: RuntimeSpec, ahead: int
    ) -> None:
        self._chains = enumerate(chains)
        self._next: tuple[int, Chain] | None = next(self._chains, None)
        self._again: deque[_Work] = deque()
        self._running: dict[Any, tuple[_Work, Member]] = {}
        self._workers = workers
        self._runtime = runtime
        self._ahead = ahead

    def results(self) -> Iterator[tuple[int, Any]]:
        self._workers.begin(self._runtime)
        try:
            while self._next or self._again or self._running:
                self._hand_out()
                for reference in self._workers.wait(list(self._running)):
                    yield from self._take(reference)
        finally:
            self._workers.drop([member for _, member in self._running.values()])

    def _hand_out(self) -> None:
        while self._next or self._again:
            member = self._workers.free(self._ahead)
            if member is None:
                return
            self._give(self._again.popleft() if self._again else self._begin(), member)

    def _begin(self) -> _Work:
        assert self._next is not None  # noqa: S101  # the only caller has looked
        position, chain = self._next
        self._next = next(self._chains, None)
        return _Work(position, chain, next(chain))

    def _give(self, work: _Work, member: Member) -> None:
        self._running[self._workers.give(member, work.call)] = (work, member)

    def _take(self, reference: Any) -> Iterator[tuple[int, Any]]:
        """Go on with the chain whose call has ended; yield its result if it has one."""
        work, member = self._running.pop(reference)
        try:
            answer = _result(reference)
        except LOST as error:
            self._give_again(work, member, error)
            return
        except Exception:
            self._workers.took(member)
            raise
        self._workers.took(member, answer.words)
        try:
            call = work.chain.send(answer.value)
        except StopIteration as end:
            yield work.position, end.value
        else:
            self._give(_Work(work.position, work.chain, call), member)

    def _give_again(self, work: _Work, member: Member, error: Exception) -> None:
        """Put a call back whose worker was lost, unless that goes on for too long.

        Raises:
            GaveUp: worker after worker was lost with it, or the only one has too little memory.
        """
        if isinstance(error, OutOfMemoryError) and self._workers.are_one:
            raise GaveUp(
                f"The only worker ran out of memory: {str(error).splitlines()[0]} Use a machine "
                "with more of it, or a smaller backbone. What is finished is kept."
            ) from error
        now = time.monotonic()
        work.first_loss = work.first_loss or now
        work.losses += 1
        self._workers.lose(member, error)
        minutes = self._runtime.wait_minutes
        if work.losses >= ATTEMPTS and now - work.first_loss > 60 * minutes:
            raise GaveUp(
                f"{work.losses} workers were lost one after the other with the same work, for more "
                f"than {minutes:g} minutes. The last time: {str(error).splitlines()[0]} What is "
                "finished is kept; the same command goes on from there."
            )
        self._again.append(work)


def _result(reference: Any) -> Answer:
    """Return what a finished call answers; raise what the worker raised, without Ray's wrapping."""
    try:
        return cast("Answer", ray.get(reference))
    except LOST:
        raise
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
