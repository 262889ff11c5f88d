"""Rounds in lines for a person: how far they are, and the next command."""

import shlex

from tasks.active.rounds import (
    COURSE,
    LABEL_STUDIO,
    SHEET,
    Outlook,
    Rounds,
    RoundState,
    flatten,
    has_news,
    unanswered,
)
from tasks.storage.uris import join, redact


def describe_rounds(rounds: Rounds, options: str) -> list[str]:
    """Return how far rounds are, in lines for a person.

    Args:
        rounds: As far as they are.
        options: What the next command needs to find them.
    """
    lines = [describe(state) for state in rounds.states]
    if rounds.finished:
        lines.append(f"Report: {join(rounds.folder, COURSE)}")
        more = (
            f" New answers came since: coft active next {options} trains on them."
            if has_news(rounds)
            else ""
        )
        lines.append(f"Finished: the budget is spent, or nothing is left to ask.{more}")
        return [*lines, f"To fine-tune the whole visual tower on the answers: {_adapt(rounds)}"]
    if not rounds.states:
        return [*lines, f"Next, the first question: coft active label {options} (or next)"]
    folder = rounds.round_folder(rounds.number - 1)
    missing = unanswered(rounds)
    lines.append(f"Report: {join(rounds.folder, COURSE)}")
    lines.append(f"Query: {rounds.states[-1].query_size} images, {missing} without an answer")
    lines.append(f"  on a page:    coft active label {options}")
    lines.append(f"  by hand:      {join(folder, SHEET)}")
    lines.append(f"  Label Studio: {join(folder, LABEL_STUDIO)}")
    if missing == rounds.states[-1].query_size:
        return [*lines, f"Next: coft active answer FILE {options}"]
    return [*lines, f"Next: coft active next {options}"]


def _adapt(rounds: Rounds) -> str:
    """Return the command that adapts CLIP to the images of rounds with their answers."""
    run = rounds.spec.active.run
    given: dict[str, object] = {
        "images": run.pool.images,
        "classes": run.pool.classes,
        "class-column": run.pool.class_column,
        "test": run.pool.test,
        "labels": run.pool.labels,
        "label-columns": run.pool.label_columns,
        "split-folders": None if run.pool.split_folders == "auto" else run.pool.split_folders,
        "rows-per-shard": run.pool.rows_per_shard,  # other files would be computed anew
        "backbone": run.backbone.name,
        "seed": run.seed,
        "answers": rounds.folder,
        "workspace": run.runtime.workspace,
    }
    for group in ("label", "phase1"):
        changed = flatten(getattr(run, group).model_dump(exclude_defaults=True), group)
        given |= {name.replace("_", "-"): value for name, value in changed.items()}
    words = ["coft", "adapt"] if run.flip else ["coft", "adapt", "--no-flip"]
    words += ["--allow-partial-labels"] if run.pool.allow_partial_labels else []
    for name, value in given.items():
        for one in value if isinstance(value, tuple) else (value,):
            words += [] if one is None else [f"--{name}", redact(str(one))]
    return shlex.join(words)


def describe(state: RoundState) -> str:
    """Return what a round says of itself, in a line for a person."""
    parts = [f"round {state.number}", f"{state.num_labels} answers"]
    if state.accuracy is not None:
        where = " on unanswered images" if state.transductive else ""
        parts.append(f"accuracy {state.accuracy:.3f}{where}")
    if state.churn is not None:
        parts.append(f"{state.churn:.1%} of the predictions changed")
    if state.outlook is not None and state.query_size:
        parts.append(_worth(state.outlook, state.query_size))
    parts.append(str(state.model_uri))
    return ", ".join(parts)


def _worth(outlook: Outlook, labels: int) -> str:
    """Return what the next query may bring, and what it costs."""
    verdict = "worth it" if outlook.worth_it else "hardly worth it"
    return (
        f"the next {labels} labels may raise accuracy by about {100 * outlook.expected:.1f} points "
        f"and by {100 * outlook.most:.1f} at most ({verdict})"
    )
