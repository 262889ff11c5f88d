"""The commands of `coft active`: rounds of questions to a person, or to a labelled data set."""

import json
import re
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flows.commands.options import About, Summary, Where, Workspace, tell, write_summary
from tasks.specs import ActiveSpec, LearnerSpec, QuerySpec, RoundsSpec, SimulationSpec

active = App(name="active", help="Ask about the images that are worth a label, round by round.")

Start = Annotated[
    str,
    Parameter(help="phase1 (CoFT's first peer), zero-shot (CLIP as it is), or models:/NAME/3."),
]
Name = Annotated[str | None, Parameter(help="Of the rounds; needed if there are several.")]
Learner = Annotated[LearnerSpec, Parameter(group="Learner")]


@active.command(name="start")
def start_rounds(  # noqa: PLR0913  # a person's choices
    about: About,
    *,
    budget: Annotated[int, Parameter(help="Labels that you can afford in all.")],
    per_round: Annotated[int, Parameter(help="Images of one query.")] = 100,
    name: Annotated[str | None, Parameter(help="Of the rounds; by default that of images.")] = None,
    strategy: Annotated[str, Parameter(help="paper, random, entropy, badge, pcb, ...")] = "paper",
    max_similarity: Annotated[
        float, Parameter(help="Cosine above which two images count as one; 1 turns it off.")
    ] = QuerySpec().max_similarity,
    start: Start = "phase1",
    smallest_gain: Annotated[
        float, Parameter(help="Share of the predictions that a further round must still change.")
    ] = 0.01,
    learner: Learner = LearnerSpec(),
    register: Annotated[str | None, Parameter(help="Name in the model registry.")] = None,
    where: Where = Where(),
) -> None:
    """Write down what the rounds are about; `coft active next` then asks the first question."""
    from tasks.active.rounds import start_rounds as write_down  # noqa: PLC0415

    query = QuerySpec(strategy=strategy, per_round=per_round, max_similarity=max_similarity)
    run = about.spec(where, register_as=register)
    _check_learner(learner, about.backbone)
    rounds = write_down(
        RoundsSpec(
            name=name or _legal_name(about.images),
            budget=budget,
            smallest_gain=smallest_gain,
            active=ActiveSpec(run=run, learner=learner, query=query, start=start),
        )
    )
    tell(f"Rounds {rounds.spec.name}: {rounds.folder}")
    _tell_rounds(where, rounds.spec.name)


@active.command(name="next")
def next_round(*, name: Name = None, where: Where = Where()) -> None:
    """Train on all answers so far, and write the next query.

    Some answers are enough. What was asked and is not answered is given up; it may be asked again.
    """
    from flows.active_rounds import active_round  # noqa: PLC0415

    which = _which(where, name)
    active_round(where.runtime, which)
    _tell_rounds(where, which)


@active.command
def answer(
    file: Annotated[str, Parameter(help="Label Studio JSON or JSON-MIN, CSV or Parquet.")],
    *,
    name: Name = None,
    workspace: Workspace = None,
) -> None:
    """Take a file of answers: some or all, in any order, also twice."""
    from flows.active_rounds import answer_rounds  # noqa: PLC0415

    where = Where(workspace=workspace)
    which = _which(where, name)
    for line in answer_rounds(where.runtime, which, file):
        tell(line)
    _tell_rounds(where, which)


@active.command
def status(*, name: Name = None, workspace: Workspace = None) -> None:
    """Show every round, and what to do next."""
    where = Where(workspace=workspace)
    _tell_rounds(where, _which(where, name))


@active.command(name="run")
def run_rounds(
    *,
    oracle: Annotated[
        str, Parameter(help="Who answers: 'column' for the pool's own labels, or a file of them.")
    ],
    name: Name = None,
    where: Where = Where(),
) -> None:
    """Go through all rounds with an oracle that answers every query."""
    from flows.active_rounds import active_rounds  # noqa: PLC0415

    which = _which(where, name)
    active_rounds(where.runtime, which, oracle=oracle)
    _tell_rounds(where, which)


@active.command
def simulate(  # noqa: PLR0913  # a person's choices
    about: About,
    *,
    strategies: Annotated[
        str, Parameter(help="Split by commas.")
    ] = "paper,random,entropy,badge,pcb",
    seeds: Annotated[int, Parameter(help="Trials of each strategy.")] = 3,
    rounds: Annotated[int, Parameter(help="Queries of a trial.")] = 5,
    per_round: Annotated[
        int | None, Parameter(help="Images of one query; by default 1 % of the pool.")
    ] = None,
    max_similarity: Annotated[
        float, Parameter(help="Cosine above which two images count as one; 1 turns it off.")
    ] = QuerySpec().max_similarity,
    start: Start = "phase1",
    with_coft: Annotated[
        bool, Parameter(help="Run CoFT without labels too, and draw its accuracy.", negative="")
    ] = False,
    learner: Learner = LearnerSpec(),
    summary: Summary = None,
    where: Where = Where(),
) -> None:
    """Let a labelled data set answer: accuracy against labels, for every strategy and seed."""
    from tasks.active.simulate import check_simulation, read_findings  # noqa: PLC0415

    query = QuerySpec(max_similarity=max_similarity)
    spec = SimulationSpec(
        active=ActiveSpec(run=about.spec(where), learner=learner, query=query, start=start),
        strategies=tuple(name.strip() for name in strategies.split(",")),
        num_seeds=seeds,
        rounds=rounds,
        per_round=per_round,
        with_coft=with_coft,
    )
    check_simulation(spec)
    _check_learner(learner, about.backbone)
    from flows.simulate import simulate as simulate_flow  # noqa: PLC0415

    numbers, lines = read_findings(simulate_flow(spec))
    for line in lines:
        tell(line)
    write_summary(summary, json.dumps(numbers, indent=1))


def _check_learner(learner: LearnerSpec, backbone: str) -> None:
    """Refuse a learner that the backbone cannot carry, before any work."""
    from tasks.active.learners import check_learner  # noqa: PLC0415
    from tasks.backbone import check_backbone  # noqa: PLC0415

    check_learner(learner, check_backbone(backbone))


def _which(where: Where, name: str | None) -> str:
    """Return which rounds are meant."""
    from tasks.active.rounds import only_name  # noqa: PLC0415

    return name or only_name(where.runtime.workspace)


def _tell_rounds(where: Where, name: str) -> None:
    """Say how far the rounds are and what to do next."""
    from tasks.active.rounds import open_rounds  # noqa: PLC0415
    from tasks.active.rounds_text import describe_rounds  # noqa: PLC0415

    options = f"--name {name}" + (f" --workspace {where.workspace}" if where.workspace else "")
    for line in describe_rounds(open_rounds(where.runtime, name), options):
        tell(line)


def _legal_name(images: str) -> str:
    """Return a name for rounds from where the images are."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(images.rstrip("/")).stem).strip("-._")
    return name or "rounds"
