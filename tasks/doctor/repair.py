"""What processes that died left as if they were at work: found, and on request ended."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from infra import prefect_server
from tasks.doctor.findings import Check, fine, note
from tasks.on_demand import OnDemand
from tasks.progress import say
from tasks.tracking import turns
from tasks.tracking.database import path_of
from tasks.tracking.store import tracking_for

if TYPE_CHECKING:
    from tasks.tracking import promotions, runs
else:  # the findings need no MLflow
    promotions, runs = OnDemand("tasks.tracking.promotions"), OnDemand("tasks.tracking.runs")


def check_dead(workspace: str) -> Check:
    """Find out whether a process that has a workspace is still there."""
    there = turns.who_is_at_work(workspace)
    if there is None:
        return fine("dead runs", "nobody is at work in the workspace, or has died there")
    if turns.is_left(workspace):
        advice = "the next run ends it, and so does `coft doctor --repair`"
        return note("dead runs", f"{there.text} has died", advice)
    return fine("dead runs", f"{there.text} is at work")


def repair(workspace: str) -> Iterator[str]:
    """End in Prefect and MLflow what dead processes began, and let aliases follow their log.

    Yields:
        What was ended, a line each.
    """
    if turns.is_left(workspace):
        prefect_server.start(say)
        if (left := turns.repair_turn(workspace)) is not None:
            yield f"{left.text} had died: its flow runs are ended"
    tracking = tracking_for(workspace)
    database = path_of(tracking.uri)
    if database is not None and not database.exists():
        return
    for name in runs.end_dead_runs(tracking):
        yield f"the MLflow run {name} of a dead process is KILLED"
    for name in promotions.follow_all(tracking):
        yield f"the aliases of {name} follow its promotion log"
