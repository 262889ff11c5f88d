"""The plan of a run, told before the run begins; `--dry-run` ends there."""

from typing import TYPE_CHECKING, Any

from flows.commands.options import conclude, tell
from tasks.on_demand import OnDemand
from tasks.specs import CoftSpec

if TYPE_CHECKING:
    from tasks import startup
    from tasks.plan import make, words
    from tasks.plan.facts import Aim, Plan
else:
    startup, make = OnDemand("tasks.startup"), OnDemand("tasks.plan.make")
    words = OnDemand("tasks.plan.words")


def announce(
    spec: CoftSpec, aim: "Aim", *, dry_run: bool = False, model: str | None = None
) -> "Plan":
    """Tell the plan of a run, and return it.

    Args:
        spec: What was asked for.
        aim: What is to come of it.
        dry_run: Whether no run follows in this process.
        model: The model that predicts, in place of the backbone.

    Raises:
        InputError: the images, the classes, the labels or the backbone have to be corrected.
    """
    plan = make.make_plan(spec, aim, hand_over=not dry_run, model=model)
    for line in words.lines_of(plan):
        tell(line)
    return plan


def end_dry_run(plan: "Plan", spec: CoftSpec, summary: str | None, *, tracked: bool = True) -> None:
    """End a command with its plan, having looked at the place as a run would.

    Args:
        plan: Which was told.
        spec: What was asked for.
        summary: Where the facts go.
        tracked: Whether the run would need MLflow.

    Raises:
        InputError: the workspace or a server would stop the run.
    """
    startup.check_place(spec.runtime, tracked=tracked)
    conclude(summary, with_plan({}, plan), [])


def with_plan(facts: dict[str, Any], plan: "Plan") -> dict[str, Any]:
    """Return the facts of a summary with those of the plan."""
    return {**facts, "plan": plan.model_dump(mode="json")}
