"""The command that writes a registered model in a format of other programs."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.commands.options import Model, Summary, Workspace, conclude, workspace_of
from tasks.on_demand import OnDemand
from tasks.specs import RuntimeSpec

if TYPE_CHECKING:
    from tasks.deploy import export as exporting
    from tasks.storage import layout
    from tasks.tracking import registry_model
else:
    exporting, layout = OnDemand("tasks.deploy.export"), OnDemand("tasks.storage.layout")
    registry_model = OnDemand("tasks.tracking.registry_model")


def export(
    *,
    model: Model,
    to: Annotated[str, Parameter(help="Folder or URI of the files.")],
    form: Annotated[
        Literal["onnx", "torchscript", "safetensors"],
        Parameter(name="--format", help="onnx needs '.[onnx]' here, and no PyTorch there."),
    ] = "onnx",
    workspace: Workspace = None,
    summary: Summary = None,
) -> None:
    """Write a model for other programs: weights, model.json, and predict.py, which uses them.

    Numbers are those of PyTorch within 1e-4, which is looked at before anything is written.
    """
    place = workspace_of(workspace)
    layout.check_workspace(place)
    runtime = RuntimeSpec(workspace=place)
    registry_model.check_kind(model, runtime)  # before PyTorch is there
    files = exporting.export(model, form, to, runtime)
    conclude(summary, {"files": files}, files)
