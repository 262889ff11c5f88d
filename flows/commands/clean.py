"""The command that removes what no finished run of a workspace refers to."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import Summary, Workspace, conclude, workspace_of
from tasks.on_demand import OnDemand

if TYPE_CHECKING:
    from tasks.storage import clean as cleaning
else:
    cleaning = OnDemand("tasks.storage.clean")


def clean(
    *,
    workspace: Workspace = None,
    remove: Annotated[
        bool, Parameter(help="Remove them; without this they are only counted.", negative="")
    ] = False,
    older_than_hours: Annotated[
        float, Parameter(help="Leave what changed since: a command at work may need it.")
    ] = 24.0,
    summary: Summary = None,
) -> None:
    """Count, or remove, files that no finished run refers to: stages of runs that never ended.

    Nothing that a finished run needs is removed: the same command computes nothing again. A run
    that was stopped, and is to go on, needs its stages: start it again before you remove them.
    """
    place = workspace_of(workspace)
    unused = cleaning.find_unused(place, hours=older_than_hours)
    lines = cleaning.describe(unused)
    if remove:
        cleaning.remove_files(place, unused)
        lines.append("Removed.")
    elif unused:
        lines.append(f"Left as they are. `coft clean --workspace {place} --remove` removes them.")
    lines.append(f"What changed in the last {older_than_hours:g} hours is left.")
    conclude(summary, {"removed": remove, "files": [asdict(file) for file in unused]}, lines)
