"""Stages are computed once: a stage with a manifest is finished and is not computed again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from pydantic import JsonValue

from tasks.on_demand import OnDemand
from tasks.progress import say
from tasks.specs import GaveUp, InputError
from tasks.storage.digests import ShardMismatch
from tasks.storage.disk_errors import is_out_of_room
from tasks.storage.finished_runs import pass_through
from tasks.storage.manifest import Manifest, Part, make_manifest, read_manifest, write_manifest
from tasks.storage.uris import join, redact

if TYPE_CHECKING:
    import prefect
    from prefect import cache_policies
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task
else:  # only who runs a flow needs it; workers import the modules of steps too
    prefect, cache_policies = OnDemand("prefect"), OnDemand("prefect.cache_policies")

P = ParamSpec("P")
R = TypeVar("R")


class Step(Generic[P, R]):
    """A function that is the Prefect task of a stage; `fn` is the function itself."""

    def __init__(self, fn: Callable[P, R], *, name: str, retries: int) -> None:
        self.fn = fn
        self.name = name
        self._retries = retries

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task in the flow that calls it."""
        result = self._task(*args, **kwargs)
        pass_through(self.name, result)
        return result

    @cached_property
    def _task(self) -> "Task[P, R]":
        make = prefect.task(
            name=self.name,
            cache_policy=cache_policies.NO_CACHE,
            retries=self._retries,
            retry_delay_seconds=5,
            retry_condition_fn=_is_retried,
        )
        return make(self.fn)


def step(name: str, *, retries: int = 1) -> Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function the Prefect task of a stage.

    Prefect's result cache is off, so that files are the only record of finished work. A retry
    therefore continues where the failure was. `InputError`, `GaveUp` and a full disk
    are not retried.

    Args:
        name: Name of the task in Prefect.
        retries: Number of retries after the first failure.
    """
    return lambda fn: Step(fn, name=name, retries=retries)


def _is_retried(_task: "Task[Any, Any]", _run: "TaskRun", state: "State[Any]") -> bool:
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, InputError | GaveUp) or is_out_of_room(error))


@dataclass(frozen=True)
class Outcome:
    """The parts that a stage wrote, in order, and further facts for its manifest."""

    parts: Sequence[Part]
    facts: Mapping[str, JsonValue] = field(default_factory=dict)


def once(
    folder: str, *, kind: str, digest: str, label: str, compute: Callable[[], Outcome]
) -> tuple[Manifest, bool]:
    """Return the manifest of a stage and whether an earlier run had finished it.

    `compute` writes the parts; the manifest is written last. If `compute` raises, there is no
    manifest, and the next run continues with the parts that exist.

    Raises:
        ShardMismatch: the folder holds a stage with other inputs.
    """
    if manifest := find_finished(folder, digest):
        say(f"{label}: finished before")
        return manifest, True
    started = time.monotonic()
    outcome = compute()
    added = {"seconds": time.monotonic() - started, "facts": dict(outcome.facts)}
    manifest = make_manifest(kind, digest, outcome.parts).model_copy(update=added)
    write_manifest(folder, manifest)
    return manifest, False


def find_finished(folder: str, digest: str) -> Manifest | None:
    """Return the manifest of a stage, None if it is not finished.

    Raises:
        ShardMismatch: the folder holds a stage that was made from something else.
    """
    manifest = read_manifest(folder)
    if manifest is not None and manifest.digest != digest:
        raise ShardMismatch(
            f"{redact(folder)}: expected a stage made from {digest}, found one made "
            f"from {manifest.digest}. Use another workspace or name, or remove that folder."
        )
    return manifest


def finished(folder: str) -> Manifest:
    """Return the manifest of a finished stage.

    Raises:
        ShardMismatch: the stage is not finished.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ShardMismatch(
            f"{redact(folder)}: expected a finished stage, found no manifest; "
            "run the same command again."
        )
    return manifest


def part_uris(folder: str) -> list[str]:
    """Return the URIs of the parts of a finished stage, in order."""
    return [join(folder, part.name) for part in finished(folder).parts]
