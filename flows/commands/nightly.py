"""The command that does what a nightly deployment does, once and now."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import (
    About,
    Register,
    Where,
    conclude,
    default_of,
    name_from,
)
from flows.commands.planning import announce, end_dry_run
from tasks.nightly.specs import NightlySpec
from tasks.on_demand import OnDemand
from tasks.plan.settings import check_settings
from tasks.specs import CoftSpec, Method, Phase2Spec, PoolSpec

if TYPE_CHECKING:
    from flows import nightly as nightly_flow
    from tasks import backbone, startup
    from tasks.tracking import versions
else:
    nightly_flow, startup = OnDemand("flows.nightly"), OnDemand("tasks.startup")
    backbone = OnDemand("tasks.backbone")
    versions = OnDemand("tasks.tracking.versions")


def nightly(  # noqa: PLR0913  # a parameter for each option
    about: About,
    *,
    method: Method = default_of(CoftSpec, "method"),
    register: Register = None,
    held_out: Annotated[
        str | None, Parameter(help="Labelled images that the gate compares on.")
    ] = None,
    held_out_labels: Annotated[
        str, Parameter(help="Theirs: 'folders', 'column', or a file.")
    ] = "folders",
    min_new: Annotated[int, Parameter(help="Adapt when so many images are new.")] = default_of(
        NightlySpec, "min_new"
    ),
    max_drift: Annotated[
        float, Parameter(help="Or when more of the new ones are like no class.")
    ] = default_of(NightlySpec, "max_drift"),
    prefer_newer: Annotated[
        bool, Parameter(help="Promote also where the difference may be chance.", negative="")
    ] = default_of(NightlySpec, "prefer_newer"),
    webhook: Annotated[
        str | None, Parameter(help="Name of a Prefect webhook block, for the digest.")
    ] = None,
    phase2: Annotated[Phase2Spec, Parameter(group="Phase II", negative="")] = Phase2Spec(),
    where: Where = Where(),
) -> None:
    """Embed what is new, adapt if that is enough, promote if it is better, and write a digest."""
    name = versions.check_name(register or name_from(about.images, otherwise="coft"))
    run = about.spec(where, method=method, phase2=phase2, register_as=name)
    check_settings(run)
    backbone.check_method_fits(method, run.backbone.name)
    plan = announce(run, "adapt", dry_run=about.dry_run)
    if about.dry_run:
        end_dry_run(plan, run, where.summary)
        return
    spec = NightlySpec(
        adapt=run,
        held_out=_held_out(run.pool, held_out, held_out_labels),
        min_new=min_new,
        max_drift=max_drift,
        prefer_newer=prefer_newer,
        webhook=webhook,
    )
    startup.begin(run.runtime, "flows.nightly")
    result = nightly_flow.nightly(spec)
    lines = [result.change.text, *([result.decision.verdict] if result.decision else [])]
    conclude(where.summary, result.model_dump(mode="json"), [*lines, f"digest     {result.digest}"])


def _held_out(pool: PoolSpec, images: str | None, labels: str) -> PoolSpec | None:
    """Return the held-out images with the classes of the run."""
    if images is None:
        return None
    return PoolSpec(
        images=images, labels=labels, classes=pool.classes, class_column=pool.class_column
    )
