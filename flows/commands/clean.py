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
        float, Parameter(help="Leave all if some of it changed since: a run may be at work.")
    ] = 24.0,
    summary: Summary = None,
) -> None:
    """Count, or remove, files that no finished run refers to: stages of runs that never ended.

    Nothing that a finished run needs is removed: the same command computes nothing again. A run
    that was stopped, and is to go on, needs its stages: start it again before you remove them.
    """
    place = workspace_of(workspace)
    unused = cleaning.find_unused(place)
    lines = cleaning.describe(unused)
    at_work = cleaning.is_at_work(unused, hours=older_than_hours)
    removed = remove and not at_work
    if removed:
        cleaning.remove_files(place, unused)
        lines.append("Removed.")
    elif at_work:
        lines.append(
            f"Left as they are: some changed in the last {older_than_hours:g} hours, so a run may "
            "be at work, or about to go on. --older-than-hours decides."
        )
    elif unused:
        lines.append(f"Left as they are. `coft clean --workspace {place} --remove` removes them.")
    conclude(summary, {"removed": removed, "files": [asdict(file) for file in unused]}, lines)
