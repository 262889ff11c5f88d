"""The report of active rounds: accuracy against labels, and the answers of each class."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.active.rounds import COURSE, PLAN, SHEET, Rounds, RoundState
from tasks.on_demand import OnDemand
from tasks.pages.html import render
from tasks.plan.facts import Plan
from tasks.plan.words import rows_of
from tasks.storage.files import exists, read_json, write_bytes
from tasks.storage.uris import join

if TYPE_CHECKING:
    from tasks.pages import figures
else:  # when there is something to draw
    figures = OnDemand("tasks.pages.figures")

TEMPLATE = "active/rounds.html.j2"
MIN_POINTS = 2  # of a curve


def write_rounds_report(rounds: Rounds, last: RoundState) -> str:
    """Write the report of the finished rounds and of `last`; return its URI."""
    states = [*rounds.states, last]
    sheets = {
        state.number: f"{Path(rounds.round_folder(state.number)).name}/{SHEET}"
        for state in states
        if state.query_size
    }
    page = render(
        TEMPLATE,
        name=rounds.spec.name,
        spec=rounds.spec,
        strategy=rounds.spec.active.query.strategy,
        states=states,
        last=last,
        sheets=sheets,
        coverage=_coverage(last),
        figure=_figure(rounds, states),
        understood=_understood(rounds),
        command=rounds.spec.active.run.command,
    )
    uri = join(rounds.folder, COURSE)
    write_bytes(uri, page.encode())
    return uri


def _understood(rounds: Rounds) -> list[tuple[str, str]]:
    """Return what was understood when the rounds began, as a plan tells it; nothing without one."""
    uri = join(rounds.folder, PLAN)
    return list(rows_of(Plan.model_validate(read_json(uri)))) if exists(uri) else []


def _coverage(state: RoundState) -> list[dict[str, Any]]:
    """Return the answers and the predicted images of each class, fewest answers first."""
    rows = [
        {"label": label, "answers": count, "predicted": state.predicted_per_class.get(label, 0)}
        for label, count in state.answers_per_class.items()
    ]
    return sorted(rows, key=lambda row: (row["answers"], -row["predicted"], row["label"]))


def _figure(rounds: Rounds, states: list[RoundState]) -> str | None:
    """Return the curve of accuracy against labels, None where it has too few points."""
    points = [
        (state.num_labels, state.accuracy, 0.0) for state in states if state.accuracy is not None
    ]
    if len(points) < MIN_POINTS:
        return None
    zero_shot = states[0].zero_shot_accuracy
    levels = {} if zero_shot is None else {"zero-shot": zero_shot}
    return figures.learning_curves({rounds.spec.active.query.strategy: points}, levels)
