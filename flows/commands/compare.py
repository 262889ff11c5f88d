"""The command `coft compare`: which method is best on your own images, and at what cost."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import About, Where, conclude
from flows.commands.planning import announce, end_dry_run, with_plan
from tasks.compare.specs import ArenaSpec, CompareSpec
from tasks.on_demand import OnDemand

if TYPE_CHECKING:
    from flows import compare as compare_flow
    from tasks import startup
    from tasks.compare import arena, checks, results
    from tasks.tracking import versions
else:
    startup, compare_flow = OnDemand("tasks.startup"), OnDemand("flows.compare")
    arena, checks = OnDemand("tasks.compare.arena"), OnDemand("tasks.compare.checks")
    results = OnDemand("tasks.compare.results")
    versions = OnDemand("tasks.tracking.versions")


def compare(
    about: About,
    *,
    what: Annotated[ArenaSpec, Parameter(name="*", negative="")] = ArenaSpec(),
    register: Annotated[
        str | None, Parameter(help="Name in the model registry for the best method without labels.")
    ] = None,
    where: Where = Where(),
) -> None:
    """Run methods side by side on labelled images: accuracy, cost and safety in one table.

    Finished runs of a method are kept: more seeds, methods or balances add to the table.
    """
    name = None if register is None else versions.check_name(register)
    spec = CompareSpec(run=about.spec(where, register_as=name), **what.model_dump())
    checks.check_arena(spec)
    checks.check_looked_at(spec)
    plan = announce(spec.run, "rounds", dry_run=about.dry_run)
    if about.dry_run:
        end_dry_run(plan, spec.run, where.summary)
        return
    startup.begin(spec.runtime, "flows.compare")
    found = compare_flow.compare(spec)
    comparison = arena.read_comparison(found)
    facts = {**comparison.model_dump(mode="json"), "folder": found.uri}
    conclude(where.summary, with_plan(facts, plan), results.lines_of(comparison))
