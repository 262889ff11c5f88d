"""The command that asks people about predictions, disagreements, refused files, or a test set."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import Classes, Workspace, conclude, workspace_of
from tasks.answering.specs import AskSpec, PageSpec
from tasks.on_demand import OnDemand
from tasks.specs import RuntimeSpec

if TYPE_CHECKING:
    from tasks.answering import listed
    from tasks.pool import classes as class_names
else:
    listed, class_names = OnDemand("tasks.answering.listed"), OnDemand("tasks.pool.classes")

Flat = Parameter(name="*", negative="")


def label(
    *,
    predictions: Annotated[
        str | None,
        Parameter(name="--from", help="Predictions: a Parquet file or a folder of them."),
    ] = None,
    ask: Annotated[AskSpec, Flat] = AskSpec(),
    page: Annotated[PageSpec, Flat] = PageSpec(),
    classes: Classes = None,
    workspace: Workspace = None,
) -> None:
    """Answer on a page, an image a key, what a model is unsure of, or measure it on a sample."""
    names: tuple[str, ...] = ()
    if classes is not None:
        given = class_names.given_classes(classes)
        names = class_names.check_classes(given.names, classes)
    runtime = RuntimeSpec(workspace=workspace_of(workspace))
    conclude(None, {}, listed.label_listed(runtime, predictions, names, ask, page))
