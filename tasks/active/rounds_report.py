"""The report of rounds so far: what the labels gave, and which classes they reached."""

from pathlib import Path
from typing import Any

from tasks.active.pages import render
from tasks.active.rounds import COURSE, SHEET, Rounds, RoundState
from tasks.pages import figures
from tasks.storage.files import write_bytes
from tasks.storage.uris import join

TEMPLATE = "rounds.html.j2"
SHORTEST = 2  # rounds that make a curve


def write_course(rounds: Rounds, last: RoundState) -> str:
    """Write the report of all rounds, `last` included, and return where it is."""
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
        command=rounds.spec.active.run.command,
    )
    uri = join(rounds.folder, COURSE)
    write_bytes(uri, page.encode())
    return uri


def _coverage(state: RoundState) -> list[dict[str, Any]]:
    """Return (class, answers, images taken for it), those with the fewest answers first."""
    rows = [
        {"label": label, "answers": count, "predicted": state.predicted_per_class.get(label, 0)}
        for label, count in state.answers_per_class.items()
    ]
    return sorted(rows, key=lambda row: (row["answers"], -row["predicted"], row["label"]))


def _figure(rounds: Rounds, states: list[RoundState]) -> str | None:
    """Return accuracy against labels, if it was measured for long enough."""
    points = [(s.num_labels, s.accuracy, 0.0) for s in states if s.accuracy is not None]
    if len(points) < SHORTEST:
        return None
    start = states[0].zero_shot_accuracy
    levels = {} if start is None else {"zero-shot": start}
    return figures.learning_curves({rounds.spec.active.query.strategy: points}, levels)
