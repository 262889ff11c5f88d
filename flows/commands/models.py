"""The commands of `coft models`: the registry's versions, and which of them is in use."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from flows.commands.options import Summary, Workspace, conclude, tell, workspace_of
from tasks.on_demand import OnDemand

if TYPE_CHECKING:
    from tasks.tracking import champion, store, versions
    from tasks.tracking.store import Tracking
    from tasks.tracking.versions import RegisteredModel
else:
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
def promote(
    name: str,
    version: str | None = None,
    *,
    force: Annotated[bool, Parameter(help="Although its run says that it is not healthy.")] = False,
    workspace: Workspace = None,
    summary: Summary = None,
) -> None:
    """Make the candidate, or a given version, the champion; the old champion becomes previous."""
    _conclude(champion.promote(_tracking(workspace), name, version, force=force), summary)


@models.command
def rollback(name: str, *, workspace: Workspace = None, summary: Summary = None) -> None:
    """Make the previous champion the champion again."""
    _conclude(champion.rollback(_tracking(workspace), name), summary)


def _tracking(workspace: str | None) -> "Tracking":
    return store.tracking_for(workspace_of(workspace))


def _conclude(model: "RegisteredModel", summary: Summary) -> None:
    facts = {"uri": model.uri, **model.model_dump(mode="json")}
    conclude(summary, facts, [f"champion is {model.uri}"])
