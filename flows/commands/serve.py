"""The command that answers requests over HTTP with a registered model."""

import os
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.commands.options import Model, Workspace, workspace_of
from tasks.on_demand import OnDemand
from tasks.serving.specs import ServeSpec
from tasks.specs import RuntimeSpec

if TYPE_CHECKING:
    from tasks.deploy import language
    from tasks.deploy import serve as serving
    from tasks.storage import layout
    from tasks.tracking import registry_model
else:
    language = OnDemand("tasks.deploy.language")
    serving, layout = OnDemand("tasks.deploy.serve"), OnDemand("tasks.storage.layout")
    registry_model = OnDemand("tasks.tracking.registry_model")


def serve(
    *,
    model: Model,
    server: Annotated[ServeSpec, Parameter(name="*", group="Server", negative="")] = ServeSpec(),
    workspace: Workspace = None,
) -> None:
    """Answer requests over HTTP; the images of all clients share the passes of the model.

    The requests of `mlflow models serve`, or one image file as it is. An alias is followed: a
    version that is promoted answers soon after, and no request is lost. `/health`, `/ready` and
    `/metrics` are for operators.
    """
    # Threads of a pass that spin while they wait for each other take the cores from decoding.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    place = workspace_of(workspace)
    layout.check_workspace(place)
    runtime = RuntimeSpec(workspace=place)
    meant = registry_model.check_model(model, runtime)  # before PyTorch is there
    language.check_language(meant, server.llm, runtime)
    serving.serve(model, server, runtime)
