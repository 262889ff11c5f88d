"""The commands of `coft active`: rounds of questions to a person, or to a labelled data set."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

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
    SimulationSpec,
)

active = App(name="active", help="Ask about the images that are worth a label, round by round.")

Start = Annotated[
    Literal["phase1", "zero-shot"],
    Parameter(help="Features of CoFT's first peer, or of CLIP as it is."),
]


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
        strategies=tuple(strategies.split(",")),
        num_seeds=seeds,
        rounds=rounds,
    )
    found = simulate_flow(spec)
    if summary is not None:
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text(found.model_dump_json(indent=1))
