"""The commands of `coft active`: rounds of questions to a person, or to a labelled data set."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from flows.commands.options import (
    About,
    Register,
    Summary,
    Where,
    Workspace,
    conclude,
    default_of,
    name_from,
)
from flows.commands.planning import announce, end_dry_run, with_plan
from tasks.active.specs import (
    ActiveSpec,
    BudgetSpec,
    LearnerSpec,
    QuerySpec,
    RoundsPageSpec,
    RoundsSpec,
    SimulationSpec,
    TrialsSpec,
)
from tasks.on_demand import OnDemand
from tasks.specs import CoftSpec

if TYPE_CHECKING:
    from flows import active_rounds as rounds_flows
    from flows import simulate as simulate_flow
    from tasks import backbone, startup
    from tasks.active import checks, rounds, rounds_text
    from tasks.active import label as page
    from tasks.active import simulate as simulation
    from tasks.annotations import reading
else:
    backbone, startup = OnDemand("tasks.backbone"), OnDemand("tasks.startup")
    rounds_flows, simulate_flow = OnDemand("flows.active_rounds"), OnDemand("flows.simulate")
    checks, simulation = OnDemand("tasks.active.checks"), OnDemand("tasks.active.simulate")
    rounds, rounds_text = OnDemand("tasks.active.rounds"), OnDemand("tasks.active.rounds_text")
    reading, page = OnDemand("tasks.annotations.reading"), OnDemand("tasks.active.label")

active = App(name="active", help="Ask about the images that are worth a label, round by round.")

Name = Annotated[str | None, Parameter(help="Of the rounds; needed if there are several.")]
Flat = Parameter(name="*", negative="")


@Parameter(name="*")
@dataclass(frozen=True)
class Learning:
    """What rounds begin with, and what each of them trains."""

    start: Annotated[
        str,
        Parameter(help="phase1 (CoFT's first peer), zero-shot (CLIP as it is), or models:/NAME/3."),
    ] = default_of(ActiveSpec, "start")
    learner: Annotated[LearnerSpec, Parameter(group="Learner")] = LearnerSpec()

    def spec(self, run: CoftSpec, query: QuerySpec) -> ActiveSpec:
        """Return rounds about the images of a run.

        Raises:
            InputError: the backbone cannot carry the learner.
        """
        checks.check_learner(self.learner, backbone.check_backbone(run.backbone.name))
        return ActiveSpec(run=run, learner=self.learner, query=query, start=self.start)


@Parameter(name="*")
@dataclass(frozen=True)
class Names:
    """What rounds are called, and the models that they register."""

    name: Annotated[str | None, Parameter(help="Of the rounds; by default that of images.")] = None
    register: Register = None


@active.command(name="start")
def start_rounds(
    about: About,
    *,
    budget: Annotated[BudgetSpec, Flat],
    query: Annotated[QuerySpec, Flat] = QuerySpec(),
    learning: Learning = Learning(),
    names: Names = Names(),
    where: Where = Where(),
) -> None:
    """Write down what the rounds are about; `coft active next` then asks the first question."""
    run = about.spec(where, register_as=names.register)
    name = names.name or name_from(about.images, otherwise="rounds", flags=re.ASCII)
    spec = RoundsSpec(name=name, active=learning.spec(run, query), **budget.model_dump())
    rounds.check_rounds(spec)
    plan = announce(run, "rounds", dry_run=True)  # `coft active next` runs
    if about.dry_run:
        end_dry_run(plan, run, where.summary)
        return
    startup.check_place(run.runtime)
    started = rounds.start_rounds(spec, plan)
    _conclude(where, name, [f"Rounds {name}: {started.folder}"], **with_plan({}, plan))


@active.command(name="next")
def next_round(*, name: Name = None, where: Where = Where()) -> None:
    """Train on all answers so far, and write the next query.

    Some answers are enough. What was asked and is not answered is given up; it may be asked again.
    """
    name = _which(where, name)
    opened = rounds.open_rounds(where.runtime, name)
    rounds.check_next(opened)
    if not opened.finished or rounds.has_news(opened):
        startup.begin(where.runtime, "flows.active_rounds")
        rounds_flows.active_round(where.runtime, name)
    _conclude(where, name)


@active.command
def answer(
    file: Annotated[str, Parameter(help="Label Studio JSON or JSON-MIN, CSV or Parquet.")],
    *,
    name: Name = None,
    workspace: Workspace = None,
    summary: Summary = None,
) -> None:
    """Take a file of answers: some or all, in any order, also twice."""
    where = Where(workspace=workspace, summary=summary)
    name = _which(where, name)
    rounds.open_rounds(where.runtime, name)
    reading.read_answers(file, ())
    startup.begin(where.runtime, "flows.active_rounds", tracked=False)
    taken = rounds_flows.answer_rounds(where.runtime, name, file)
    _conclude(where, name, taken.lines(), answers=taken.model_dump(mode="json"))


@active.command
def label(
    *,
    name: Name = None,
    page_spec: Annotated[RoundsPageSpec, Flat] = RoundsPageSpec(),
    where: Where = Where(),
) -> None:
    """Answer on a page, an image a key; the next round trains while you go on."""
    name = _which(where, name)
    page.label_rounds(where.runtime, name, page_spec)
    _conclude(where, name)


@active.command
def status(*, name: Name = None, workspace: Workspace = None) -> None:
    """Show every round, and what to do next."""
    where = Where(workspace=workspace)
    _conclude(where, _which(where, name))


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
    name = _which(where, name)
    opened = rounds.open_rounds(where.runtime, name)
    checks.check_oracle(oracle, opened.spec.active.run.pool)
    startup.begin(where.runtime, "flows.active_rounds")
    rounds_flows.active_rounds(where.runtime, name, oracle=oracle)
    _conclude(where, name)


@active.command
def simulate(
    about: About,
    *,
    trials: Annotated[TrialsSpec, Flat] = TrialsSpec(),
    max_similarity: Annotated[
        float, Parameter(help=QuerySpec.model_fields["max_similarity"].description)
    ] = default_of(QuerySpec, "max_similarity"),
    learning: Learning = Learning(),
    where: Where = Where(),
) -> None:
    """Let a labelled data set answer: accuracy against labels, for every strategy and seed."""
    query = QuerySpec(max_similarity=max_similarity)
    active = learning.spec(about.spec(where), query)
    spec = SimulationSpec(active=active, **trials.model_dump())
    checks.check_simulation(spec)
    checks.settle_start(active.start, active.run.runtime)
    plan = announce(active.run, "rounds", dry_run=about.dry_run)
    if about.dry_run:
        end_dry_run(plan, active.run, where.summary)
        return
    startup.begin(active.run.runtime, "flows.simulate")
    numbers, lines = simulation.read_findings(simulate_flow.simulate(spec))
    conclude(where.summary, with_plan(numbers, plan), lines)


def _which(where: Where, name: str | None) -> str:
    """Return which rounds are meant."""
    return name or rounds.only_name(where.runtime.workspace)


def _conclude(where: Where, name: str, before: Iterable[str] = (), **more: Any) -> None:
    """Say how far the rounds are and what to do next, after what the command did itself."""
    opened = rounds.open_rounds(where.runtime, name)
    options = f"--name {name}" + (f" --workspace {where.workspace}" if where.workspace else "")
    facts = {
        "name": name,
        "folder": opened.folder,
        "finished": opened.finished,
        "num_unanswered": rounds.unanswered(opened),
        "rounds": [state.model_dump(mode="json") for state in opened.states],
        **more,
    }
    conclude(where.summary, facts, [*before, *rounds_text.describe_rounds(opened, options)])
