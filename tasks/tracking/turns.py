"""One run at a time in a workspace: the second one waits, or ends at once.

A process that runs a flow holds a lock on a file in `running/`, as for its MLflow runs
(`running.py`), and writes beside it who it is and which flow runs of Prefect it has. Where it died,
its words are still there when the next one takes its turn: Prefect is told that those have crashed.
A workspace in a bucket is held on one machine only.
"""

import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from uuid import UUID

from pydantic import ValidationError

from tasks.on_demand import OnDemand
from tasks.progress import say
from tasks.specs import GaveUp, RuntimeSpec, Spec
from tasks.storage.digests import fingerprint
from tasks.storage.uris import absolute, is_local, redact
from tasks.tracking.running import FOLDER, Owner, hold, let_go, machine
from tasks.tracking.store import tracking_for

if TYPE_CHECKING:
    import prefect
    from prefect import context, states
    from prefect.client.schemas.objects import State
else:  # only who runs a flow needs it
    prefect, context = OnDemand("prefect"), OnDemand("prefect.context")
    states = OnDemand("prefect.states")

P = ParamSpec("P")
R = TypeVar("R")

_EVERY = 0.5  # seconds between two looks at a workspace that somebody else has


class AtWork(Spec):
    """Who has a workspace."""

    what: str
    machine: str
    process: int
    since: str
    flow_runs: tuple[UUID, ...] = ()

    @property
    def text(self) -> str:
        """Return who it is, for people."""
        return f"{self.what} (process {self.process} on {self.machine}, since {self.since})"


def in_turn(flow: Callable[P, R]) -> Callable[P, R]:
    """Let what a flow does be the only work in its workspace; a flow in a flow has its turn.

    Args:
        flow: A function with a `RuntimeSpec` among its parameters, itself or as a field `runtime`.
    """
    signature = inspect.signature(flow)

    @wraps(flow)
    def alone_in_workspace(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments.values()
        (runtime,) = (
            found
            for value in given
            if isinstance(found := getattr(value, "runtime", value), RuntimeSpec)
        )
        with turn(runtime):
            return flow(*args, **kwargs)

    return alone_in_workspace


@contextmanager
def turn(runtime: RuntimeSpec) -> Iterator[None]:
    """Hold the workspace for the block.

    Raises:
        GaveUp: another run is at work in it, and this one is not to wait.
    """
    lock, note = _files(runtime.workspace)
    nested, own = _read(note) if lock in _mine else None, _flow_run()
    if nested is not None:
        _write(note, nested.model_copy(update={"flow_runs": (*nested.flow_runs, *own)}))
        yield
        _write(note, nested)
        return
    _wait(lock, note, runtime)
    try:
        left = _read(note)
        _write(note, _self(own))
        if left is not None:
            end_flow_runs(left)
        yield
    finally:
        note.unlink(missing_ok=True)
        _mine.discard(lock)
        let_go(lock)


def who_is_at_work(workspace: str) -> AtWork | None:
    """Return who has a workspace now, or has died in it; None where nobody left a word."""
    return _read(_files(workspace)[1])


def is_left(workspace: str) -> bool:
    """Return whether somebody has died in a workspace, and nobody has come after."""
    lock, note = _files(workspace)
    there = _read(note)
    if there is None or lock in _mine or not hold(Owner(lock, there.machine)):
        return False
    let_go(lock)
    return True


def repair_turn(workspace: str) -> AtWork | None:
    """End the flow runs of a process that died in a workspace; return who that was."""
    lock, note = _files(workspace)
    left = _read(note)
    if left is None or lock in _mine or not hold(Owner(lock, left.machine)):
        return None
    end_flow_runs(left)
    note.unlink(missing_ok=True)
    let_go(lock)
    return left


def check_turn(runtime: RuntimeSpec) -> None:
    """Refuse a run that is not to wait, where another one is at work.

    Raises:
        GaveUp: says who is.
    """
    lock, note = _files(runtime.workspace)
    if runtime.on_busy == "wait" or lock in _mine or not lock.exists():
        return
    there = _read(note)
    if not hold(Owner(lock, there.machine if there else machine())):
        raise _busy(there, runtime)
    let_go(lock)


def end_flow_runs(left: AtWork) -> None:
    """Tell Prefect that the flow runs of a process that died have crashed."""
    crashed: State[Any] = states.Crashed(message=f"{left.text} has died; found by the next run.")
    with prefect.get_client(sync_client=True) as client:
        for run in left.flow_runs:
            with suppress(Exception):  # another server, or one that is not there any more
                state = client.read_flow_run(run).state
                if state is not None and not state.is_final():
                    client.set_flow_run_state(run, crashed, force=True)
                    say(f"Prefect had {left.what} as running, whose process has died: ended.")


_mine: set[Path] = set()  # locks of the turns of this process


def _wait(lock: Path, note: Path, runtime: RuntimeSpec) -> None:
    told = False
    while True:
        there = _read(note)
        if hold(Owner(lock, there.machine if there else machine())):
            _mine.add(lock)
            return
        if runtime.on_busy == "end":
            raise _busy(there, runtime)
        if not told:
            told = True
            say(f"Waiting: {_told(there)} is at work in {redact(runtime.workspace)}.")
        time.sleep(_EVERY)


def _busy(there: AtWork | None, runtime: RuntimeSpec) -> GaveUp:
    return GaveUp(
        f"{_told(there)} is at work in {redact(runtime.workspace)}; wait until it has ended, say "
        "--on-busy wait, or name another --workspace"
    )


def _told(there: AtWork | None) -> str:
    return there.text if there is not None else "another run"


def _files(workspace: str) -> tuple[Path, Path]:
    """Return the lock of a workspace, and the file that says who has it."""
    name = "workspace" if is_local(workspace) else fingerprint(absolute(workspace))
    folder = Path(str(tracking_for(workspace).home)) / FOLDER
    return folder / f"{name}.turn", folder / f"{name}.json"


def _self(flow_runs: tuple[UUID, ...]) -> AtWork:
    flow = context.FlowRunContext.get()
    name = flow.flow.name if flow is not None and flow.flow is not None else Path(sys.argv[0]).name
    return AtWork(
        what=name,
        machine=platform.node(),
        process=os.getpid(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        flow_runs=flow_runs,
    )


def _flow_run() -> tuple[UUID, ...]:
    flow = context.FlowRunContext.get()
    return () if flow is None or flow.flow_run is None else (flow.flow_run.id,)


def _read(note: Path) -> AtWork | None:
    try:
        return AtWork.model_validate(json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):  # none, or half of one
        return None


def _write(note: Path, who: AtWork) -> None:
    beside = note.with_suffix(".new")
    beside.write_text(who.model_dump_json(), encoding="utf-8")
    beside.replace(note)
