"""The promotion log of a model: which version became champion when, in one order for all.

The log is a run of MLflow in an experiment of the model's own, beside the registry. An event is a
parameter of that run, by its number; a store of MLflow sets a parameter once and never changes it.
So whoever writes event N first has it, and who comes later learns of that: on any number of
machines, over SQLite, PostgreSQL or a server, without a lock that somebody could die with.

The aliases `champion` and `previous` follow from the last event. When they have, a second parameter
says so; from then on an alias that is elsewhere was moved by a person, and the log takes that over.
"""

import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from tasks.specs import GaveUp, InputError, Spec
from tasks.tracking.registry import read_registry
from tasks.tracking.running import machine
from tasks.tracking.store import Tracking, alone, connect, registry_uri
from tasks.tracking.versions import CHAMPION, PREVIOUS, aliases_of, list_models

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

EXPERIMENT = "coft-promotions"
_NUMBER = re.compile(r"\d{6}")
_FOLLOWED = ".followed"

Action = Literal["promote", "roll back", "take over"]


class Overtaken(GaveUp):
    """Somebody else has changed the champion meanwhile; the message says who."""


class Event(Spec):
    """A change of the champion, and what is champion and previous after it."""

    number: int
    action: Action = "take over"
    champion: str | None = None
    previous: str | None = None
    by: str = ""
    at: str = ""
    mark: str = ""  # tells equal events of two writers apart

    @property
    def text(self) -> str:
        """Return who made what champion, as the beginning of a sentence."""
        what = f"version {self.champion}" if self.champion else "no version"
        return f"{self.by} has made {what} the champion at {self.at}"


class Log(Spec):
    """The events of a model so far."""

    name: str
    run_id: str
    events: tuple[Event, ...]
    followed: bool  # whether the aliases are as the last event says

    @property
    def last(self) -> Event:
        """Return the last event; before the first one there is no champion."""
        return self.events[-1] if self.events else Event(number=0)


def read_log(tracking: Tracking, name: str) -> Log:
    """Return the log of a model, after it has taken over what people did to the aliases by hand.

    Raises:
        InputError: there is no such model, or its log was deleted.
    """
    aliases = aliases_of(tracking, name)  # refuses a model that is not there
    with alone(tracking):
        log = _read(tracking, name) or _create(tracking, name)
    if log.events and not log.followed:
        return log
    aliases = aliases_of(tracking, name)  # after the log: whatever differs came later
    champion, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
    if (champion, previous) == (log.last.champion, log.last.previous):
        return log
    append(tracking, log, "take over", champion=champion, previous=previous)
    return follow(tracking, name)


def append(
    tracking: Tracking, log: Log, action: Action, *, champion: str | None, previous: str | None
) -> Event:
    """Write the next event, if nobody has written one since the log was read.

    Returns:
        The event; that of somebody else who made the same version champion.

    Raises:
        Overtaken: somebody else has changed the champion meanwhile.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 # slow to import

    event = Event(
        number=log.last.number + 1,
        action=action,
        champion=champion,
        previous=previous,
        by=_who(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        mark=uuid4().hex,
    )
    try:
        with alone(tracking):
            _client(tracking).log_param(log.run_id, _key(event), event.model_dump_json())
    except MlflowException:
        first = _event_of(tracking, log.name, event.number)
        if first is None:  # nobody was faster: the store has another trouble
            raise
        if first.mark != event.mark:  # else written, though the answer was lost
            if first.champion != champion:
                raise overtaken(log.name, first, champion) from None
            return first
    return event


def follow(tracking: Tracking, name: str) -> Log:
    """Let the aliases be as the last event says, also where its writer has died."""
    with alone(tracking):
        while True:
            log = _existing(tracking, name)
            if log.followed:
                return log
            _set_aliases(tracking, log)
            if _existing(tracking, name).last == log.last:
                _client(tracking).log_param(log.run_id, f"{_key(log.last)}{_FOLLOWED}", "yes")


def follow_all(tracking: Tracking) -> list[str]:
    """Let the aliases of all models follow; return the names of those where they had not."""
    behind = [
        log.name
        for name in read_registry(tracking)
        if (log := _read(tracking, name)) is not None and not log.followed
    ]
    for name in behind:
        follow(tracking, name)
    return behind


def overtaken(name: str, event: Event, wanted: str | None) -> Overtaken:
    """Return what to tell the one who came too late."""
    return Overtaken(
        f"{name!r}: {event.text}, so version {wanted} is not. Look at both, then promote again "
        "if you must"
    )


def _existing(tracking: Tracking, name: str) -> Log:
    log = _read(tracking, name)
    if log is None:
        raise InputError(f"the promotion log of {name!r} has gone while it was read; try again")
    return log


def _event_of(tracking: Tracking, name: str, number: int) -> Event | None:
    events = _existing(tracking, name).events
    return next((event for event in events if event.number == number), None)


def _read(tracking: Tracking, name: str) -> Log | None:
    run = _run_of(_client(tracking), name)
    if run is None:
        return None
    params = run.data.params
    numbers = sorted(key for key in params if _NUMBER.fullmatch(key))
    events = tuple(Event.model_validate_json(params[key]) for key in numbers)
    followed = not numbers or f"{numbers[-1]}{_FOLLOWED}" in params
    return Log(name=name, run_id=run.info.run_id, events=events, followed=followed)


def _run_of(client: "MlflowClient", name: str) -> "MlflowRun | None":
    experiment = client.get_experiment_by_name(f"{EXPERIMENT}/{name}")
    if experiment is None:
        return None
    if experiment.lifecycle_stage == "active":
        for run in client.search_runs([experiment.experiment_id], max_results=1):
            return run
    raise InputError(
        f"the promotion log of {name!r} was deleted; restore the MLflow experiment "
        f"{experiment.experiment_id} and its run: `mlflow experiments restore --help`"
    )


def _create(tracking: Tracking, name: str) -> Log:
    """Make an empty log: an experiment gets its name when its run is there, and only one does."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 # slow to import

    client, wanted = _client(tracking), f"{EXPERIMENT}/{name}"
    draft = client.create_experiment(f"{wanted}/{uuid4().hex}", tracking.artifacts)
    run = client.create_run(draft, run_name=f"promotions of {name}")
    client.set_terminated(run.info.run_id)  # nobody is at work on it
    try:
        client.rename_experiment(draft, wanted)
    except MlflowException:
        if client.get_experiment_by_name(wanted) is None:
            raise
        client.delete_experiment(draft)  # another process was faster
    return _existing(tracking, name)


def _set_aliases(tracking: Tracking, log: Log) -> None:
    """Set both aliases to versions that are there; a crash in between leaves a champion."""
    client, versions = connect(tracking), {m.version for m in list_models(tracking, log.name)}
    for alias, version in ((PREVIOUS, log.last.previous), (CHAMPION, log.last.champion)):
        if version in versions:
            client.set_registered_model_alias(log.name, alias, version)
        elif alias in aliases_of(tracking, log.name):
            client.delete_registered_model_alias(log.name, alias)


def _client(tracking: Tracking) -> "MlflowClient":
    """Return the store of the registry, whatever keeps the runs: all who promote share it."""
    return connect(tracking.model_copy(update={"uri": registry_uri(tracking)}))


def _key(event: Event) -> str:
    return f"{event.number:06d}"


def _who() -> str:
    user = os.environ.get("USER") or f"user {os.getuid()}"
    return f"{user} on {machine()} (process {os.getpid()})"
