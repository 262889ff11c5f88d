"""The commands of `coft models`: the registry's versions, and which of them is in use."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flows.commands.options import (
    Classes,
    Labels,
    Summary,
    Where,
    Workspace,
    conclude,
    default_of,
    tell,
    workspace_of,
)
from tasks.on_demand import OnDemand
from tasks.promotion.specs import PromotionSpec
from tasks.refs import ModelKind
from tasks.specs import GaveUp, InputError, PoolSpec

if TYPE_CHECKING:
    from flows import promote as promote_flow
    from tasks import startup
    from tasks.tracking import champion, store, versions
    from tasks.tracking.store import Tracking
    from tasks.tracking.versions import RegisteredModel
else:
    startup, promote_flow = OnDemand("tasks.startup"), OnDemand("flows.promote")
    champion, store = OnDemand("tasks.tracking.champion"), OnDemand("tasks.tracking.store")
    versions = OnDemand("tasks.tracking.versions")

models = App(name="models", help="The registry: versions, and which of them is in use.")


@models.command(name="list")
def list_models(name: str | None = None, *, workspace: Workspace = None) -> None:
    """Show registered models: versions, aliases, and the evidence of each."""
    registered = versions.list_models(_tracking(workspace), name)
    if not registered:
        tell("No model is registered. `coft adapt --images ...` registers one.")
    for model in registered:
        aliases = f" @{', @'.join(model.aliases)}" if model.aliases else ""
        health = "healthy" if model.healthy else "not healthy"
        evidence = ", ".join(f"{key} {value}" for key, value in model.evidence.items())
        tell(f"{model.uri}{aliases}  {health}  {evidence}")


@models.command
def promote(  # noqa: PLR0913  # a parameter for each option
    name: str,
    version: str | None = None,
    *,
    images: Annotated[
        str | None, Parameter(help="Compare it with the champion on these images first.")
    ] = None,
    labels: Labels = None,
    classes: Classes = None,
    prefer_newer: Annotated[
        bool, Parameter(help="Also where the difference may be chance.", negative="")
    ] = default_of(PromotionSpec, "prefer_newer"),
    force: Annotated[bool, Parameter(help="Against the evidence.")] = False,
    where: Where = Where(),
) -> None:
    """Make the candidate, or a given version, the champion; the old champion becomes previous.

    With --images it has to show that it is no step back: with --labels by its accuracy, without
    them by where it agrees with the champion.
    """
    if images is None:
        _conclude(
            champion.promote(_tracking(where.workspace), name, version, force=force), where.summary
        )
        return
    spec = PromotionSpec(
        name=name,
        version=version,
        pool=PoolSpec(images=images, labels=labels, classes=classes),
        prefer_newer=prefer_newer,
        force=force,
        runtime=where.runtime,
    )
    chosen = versions.find_chosen(_tracking(where.workspace), name, version)
    kind = ModelKind(chosen.evidence.get(versions.KIND, ModelKind.CLASSIFIER))
    if kind != ModelKind.CLASSIFIER:
        msg = f"{chosen.uri} is {kind.words}, not to be compared on images; "
        raise InputError(f"{msg}`coft models promote {name}` promotes it by its evidence.")
    startup.begin(spec.runtime, "flows.promote")
    decision = promote_flow.promote(spec)
    conclude(where.summary, decision.model_dump(mode="json"), [decision.verdict])
    if decision.champion != decision.version:
        raise GaveUp(f"{decision.name!r} keeps its champion; --force promotes all the same")


@models.command
def rollback(name: str, *, workspace: Workspace = None, summary: Summary = None) -> None:
    """Make the previous champion the champion again."""
    _conclude(champion.rollback(_tracking(workspace), name), summary)


def _tracking(workspace: str | None) -> "Tracking":
    return store.tracking_for(workspace_of(workspace))


def _conclude(model: "RegisteredModel", summary: Summary) -> None:
    facts = {"uri": model.uri, **model.model_dump(mode="json")}
    conclude(summary, facts, [f"champion is {model.uri}"])
