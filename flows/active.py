"""The commands of `coft active`: rounds of questions to a person, or to a labelled data set."""

import re
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console

from flows.options import (
    Backbone,
    Classes,
    Flip,
    Images,
    Labels,
    Summary,
    Test,
    Workspace,
    command_line,
    given,
    runtime_spec,
)
from tasks.specs import (
    ActiveSpec,
    BackboneSpec,
    CoftSpec,
    LabelSpec,
    LearnerSpec,
    Phase1Spec,
    PoolSpec,
    QuerySpec,
    RoundsSpec,
    RuntimeSpec,
    SimulationSpec,
)

active = App(name="active", help="Ask about the images that are worth a label, round by round.")

Start = Annotated[
    Literal["phase1", "zero-shot"],
    Parameter(help="Features of CoFT's first peer, or of CLIP as it is."),
]


Name = Annotated[str | None, Parameter(help="Of the rounds; needed if there are several.")]


@active.command(name="start")
def start_rounds(  # noqa: PLR0913  # a person's choices
    *,
    images: Images,
    budget: Annotated[int, Parameter(help="Labels that you can afford in all.")],
    per_round: Annotated[int, Parameter(help="Images of one query.")] = 100,
    name: Annotated[str | None, Parameter(help="Of the rounds; by default that of images.")] = None,
    classes: Classes = None,
    test: Test = None,
    labels: Labels = None,
    backbone: Backbone = "embedded",
    strategy: Annotated[str, Parameter(help="paper, random, entropy, badge, pcb, ...")] = "paper",
    start: Start = "phase1",
    seed: int = 0,
    flip: Flip = True,
    register: Annotated[str | None, Parameter(help="Name in the model registry.")] = None,
    workspace: Workspace = None,
    ray_address: str | None = None,
    num_actors: int | None = None,
    num_gpus: float | None = None,
    max_similarity: Annotated[
        float, Parameter(help="Cosine above which two images count as one; 1 turns it off.")
    ] = QuerySpec().max_similarity,
    learner: Annotated[LearnerSpec, Parameter(group="Learner")] = LearnerSpec(),
    label: Annotated[LabelSpec, Parameter(group="First labels", negative="")] = LabelSpec(),
    phase1: Annotated[Phase1Spec, Parameter(group="Phase I", negative="")] = Phase1Spec(),
) -> None:
    """Write down what the rounds are about; `coft active next` then asks the first question."""
    from tasks.active.session import start_rounds as write_down  # noqa: PLC0415
    from tasks.labels import check_input  # noqa: PLC0415
    from tasks.towers import check_backbone  # noqa: PLC0415

    pool = PoolSpec(images=images, **given(classes=classes, test=test, labels=labels))
    check_input(pool)
    check_backbone(backbone)
    run = CoftSpec(
        pool=pool,
        backbone=BackboneSpec(name=backbone),
        label=label,
        phase1=phase1,
        seed=seed,
        flip=flip,
        runtime=runtime_spec(workspace, ray_address, num_actors, num_gpus),
        register_as=register,
        command=command_line(),
    )
    query = QuerySpec(strategy=strategy, per_round=per_round, max_similarity=max_similarity)
    rounds = write_down(
        RoundsSpec(
            name=name or _legal_name(images),
            budget=budget,
            active=ActiveSpec(run=run, learner=learner, query=query, start=start),
        )
    )
    _print(f"Rounds {rounds.spec.name}: {rounds.folder}")
    _tell(run.runtime, rounds.spec.name)


@active.command(name="next")
def next_round(
    *,
    name: Name = None,
    workspace: Workspace = None,
    ray_address: str | None = None,
    num_actors: int | None = None,
    num_gpus: float | None = None,
) -> None:
    """Train on all answers so far, and write the next query.

    Some answers are enough. What was asked and is not answered is given up; it may be asked again.
    """
    from flows.active_rounds import active_round  # noqa: PLC0415
    from tasks.active.session import only_name  # noqa: PLC0415

    runtime = runtime_spec(workspace, ray_address, num_actors, num_gpus)
    which = name or only_name(runtime.workspace)
    active_round(runtime, which)
    _tell(runtime, which)


@active.command
def answer(
    file: Annotated[str, Parameter(help="Label Studio JSON or JSON-MIN, CSV or Parquet.")],
    *,
    name: Name = None,
    workspace: Workspace = None,
) -> None:
    """Take a file of answers: some or all, in any order, also twice."""
    from flows.active_rounds import answer_rounds  # noqa: PLC0415
    from tasks.active.session import only_name  # noqa: PLC0415

    runtime = runtime_spec(workspace)
    which = name or only_name(runtime.workspace)
    for line in answer_rounds(runtime, which, file):
        _print(line)
    _tell(runtime, which)


@active.command
def status(*, name: Name = None, workspace: Workspace = None) -> None:
    """Show every round, and what to do next."""
    from tasks.active.session import only_name  # noqa: PLC0415

    runtime = runtime_spec(workspace)
    _tell(runtime, name or only_name(runtime.workspace))


@active.command(name="run")
def run_rounds(
    *,
    oracle: Annotated[
        str, Parameter(help="Who answers: 'column' for the pool's own labels, or a file of them.")
    ],
    name: Name = None,
    workspace: Workspace = None,
    ray_address: str | None = None,
    num_actors: int | None = None,
    num_gpus: float | None = None,
) -> None:
    """Go through all rounds with an oracle that answers every query."""
    from flows.active_rounds import active_rounds  # noqa: PLC0415
    from tasks.active.session import only_name  # noqa: PLC0415

    runtime = runtime_spec(workspace, ray_address, num_actors, num_gpus)
    which = name or only_name(runtime.workspace)
    active_rounds(runtime, which, oracle=oracle)
    _tell(runtime, which)


@active.command
def simulate(  # noqa: PLR0913  # a person's choices
    *,
    images: Images,
    labels: Labels,
    classes: Classes = None,
    test: Test = None,
    backbone: Backbone = "embedded",
    strategies: Annotated[
        str, Parameter(help="Split by commas.")
    ] = "paper,random,entropy,badge,pcb",
    seeds: Annotated[int, Parameter(help="Trials of each strategy.")] = 3,
    rounds: Annotated[int, Parameter(help="Queries of a trial.")] = 5,
    start: Start = "phase1",
    with_coft: Annotated[
        bool, Parameter(help="Run CoFT without labels too, and draw its accuracy.", negative="")
    ] = False,
    seed: int = 0,
    flip: Flip = True,
    workspace: Workspace = None,
    summary: Summary = None,
    ray_address: str | None = None,
    num_actors: int | None = None,
    num_gpus: float | None = None,
    query: Annotated[QuerySpec, Parameter(group="Query", negative="")] = QuerySpec(),
    learner: Annotated[LearnerSpec, Parameter(group="Learner")] = LearnerSpec(),
    label: Annotated[LabelSpec, Parameter(group="First labels", negative="")] = LabelSpec(),
    phase1: Annotated[Phase1Spec, Parameter(group="Phase I", negative="")] = Phase1Spec(),
) -> None:
    """Let a labelled data set answer: accuracy against labels, for every strategy and seed."""
    from flows.simulate import simulate as simulate_flow  # noqa: PLC0415
    from tasks.active.simulate import read_findings  # noqa: PLC0415

    run = CoftSpec(
        pool=PoolSpec(images=images, labels=labels, **given(classes=classes, test=test)),
        backbone=BackboneSpec(name=backbone),
        label=label,
        phase1=phase1,
        seed=seed,
        flip=flip,
        runtime=runtime_spec(workspace, ray_address, num_actors, num_gpus),
        command=command_line(),
    )
    spec = SimulationSpec(
        active=ActiveSpec(run=run, learner=learner, query=query, start=start),
        strategies=tuple(name.strip() for name in strategies.split(",")),
        num_seeds=seeds,
        rounds=rounds,
        with_coft=with_coft,
    )
    found = simulate_flow(spec)
    for line in read_findings(found):
        _print(line)
    if summary is not None:
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text(found.model_dump_json(indent=1))


def _tell(runtime: RuntimeSpec, name: str) -> None:
    """Say how far the rounds are and what to do next."""
    from tasks.active.session import describe_rounds, open_rounds  # noqa: PLC0415

    for line in describe_rounds(open_rounds(runtime, name)):
        _print(line)


def _legal_name(images: str) -> str:
    """Return a name for rounds from where the images are."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(images.rstrip("/")).stem).strip("-._")
    return name or "rounds"


def _print(text: str) -> None:
    Console(highlight=False, soft_wrap=True).print(text, markup=False)
