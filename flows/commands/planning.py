"""The plan of a run, told before the run begins; `--dry-run` ends there."""

from pathlib import Path
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
    spec: CoftSpec, aim: "Aim", *, dry_run: bool, summary: Path | None, model: str | None = None
) -> "Plan | None":
    """Tell the plan of a run and return it; None where that was all that was asked for.

    Args:
        spec: What was asked for.
        aim: What is to come of it.
        dry_run: Stop here, having looked at the place too.
        summary: Where the facts of a dry run go.
        model: The model that predicts, in place of the backbone.

    Raises:
        InputError: the images, the classes, the labels or the backbone have to be corrected.
    """
    plan = make.make_plan(spec, aim, hand_over=not dry_run, model=model)
    for line in words.lines_of(plan):
        tell(line)
    if not dry_run:
        return plan
    startup.check_place(spec.runtime, tracked=aim != "embed")
    conclude(summary, with_plan({}, plan), [])
    return None


def with_plan(facts: dict[str, Any], plan: "Plan") -> dict[str, Any]:
    """Return the facts of a summary with those of the plan."""
    return {**facts, "plan": plan.model_dump(mode="json")}
