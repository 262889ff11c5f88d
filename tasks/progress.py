"""How far a stage is: a bar on a terminal, plain lines elsewhere, an artifact in Prefect's UI."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tasks.on_demand import OnDemand

if TYPE_CHECKING:
    from prefect import artifacts, context
else:  # a worker shows no progress
    artifacts, context = OnDemand("prefect.artifacts"), OnDemand("prefect.context")

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_ARTIFACTS = 5.0


class Advance(Protocol):
    """Called with how many units were finished, and how many more there turned out to be."""

    def __call__(self, count: int, *, more: int = 0) -> None:
        """Go on by `count` units, of a total that is larger by `more`."""


@contextmanager
def progress(label: str, total: int, *, unit: str = "images") -> Iterator[Advance]:
    """Show a stage's progress for the time of the block."""
    show = _bar if sys.stderr.isatty() else _lines
    with _artifact(label, total) as to_prefect, show(label, total, unit) as to_person:

        def advance(count: int, *, more: int = 0) -> None:
            to_person(count, more=more)
            to_prefect(count, more=more)

        yield advance


_kept: list[str] | None = None


@contextmanager
def keep_words() -> Iterator[list[str]]:
    """Keep what is said in the block, in a process that nobody reads, for who can say it."""
    global _kept  # noqa: PLW0603  # a worker does one thing at a time, in any of its threads
    words: list[str] = []
    _kept = words
    try:
        yield words
    finally:
        _kept = None


def say(text: str) -> None:
    """Tell the person one thing, on standard error."""
    if _kept is not None:
        _kept.append(text)
        return
    Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(text, markup=False)


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)

        def advance(count: int, *, more: int = 0) -> None:
            nonlocal total
            total += more
            bar.update(task, total=total, advance=count)

        yield advance


@contextmanager
def _lines(label: str, total: int, unit: str) -> Iterator[Advance]:
    started = last = time.monotonic()
    done = 0

    def advance(count: int, *, more: int = 0) -> None:
        nonlocal done, last, total
        done, total = done + count, total + more
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and 0 < done < total:
            last = now
            say(f"{label}: {done:,} of {total:,} {unit}, {_rate(done, now - started)}")

    yield advance
    seconds = time.monotonic() - started
    say(f"{label}: {done:,} {unit} in {seconds:,.1f} s")


def _rate(done: int, seconds: float) -> str:
    if done >= seconds:
        return f"{done / seconds:,.1f} a second"
    return f"{seconds / done:,.1f} seconds each"


@contextmanager
def _artifact(label: str, total: int) -> Iterator[Advance]:
    """Mirror the progress in Prefect's UI, seldom enough to cost nothing."""
    if context.TaskRunContext.get() is None:
        yield lambda count, *, more=0: None  # noqa: ARG005  # the names of the protocol
        return
    artifact = artifacts.create_progress_artifact(0.0, description=label)
    done, last = 0, time.monotonic()

    def advance(count: int, *, more: int = 0) -> None:
        nonlocal done, last, total
        done, total = done + count, total + more
        if time.monotonic() - last >= SECONDS_BETWEEN_ARTIFACTS:
            last = time.monotonic()
            artifacts.update_progress_artifact(artifact, progress=100.0 * done / max(1, total))  # type: ignore[arg-type]

    yield advance
    artifacts.update_progress_artifact(artifact, progress=100.0 * done / max(1, total))  # type: ignore[arg-type]
