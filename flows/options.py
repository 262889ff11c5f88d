"""What the commands have in common: options, and how they become specs."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from infra.settings import Settings
from tasks.specs import RuntimeSpec

Images = Annotated[str, Parameter(help="Folder, glob, bucket URI, Parquet file or folder of it.")]
Classes = Annotated[str | None, Parameter(help="Text or CSV file, or 'cat,dog,...'.")]
Test = Annotated[str | None, Parameter(help="Images that are never trained on.")]
Labels = Annotated[
    str | None, Parameter(help="For evaluation only: 'folders', 'column', or a file.")
]
Workspace = Annotated[str | None, Parameter(help="Folder or URI of all results.")]
Backbone = Annotated[
    str, Parameter(help="'embedded', NAME/TAG of open_clip, local-dir:PATH or hf-hub:ORG/NAME.")
]
Summary = Annotated[Path | None, Parameter(help="Write what came of it to this JSON file.")]
Flip = Annotated[bool, Parameter(help="A mirrored image shows the same class.")]


def given(**values: object) -> dict[str, Any]:
    """Return what the person gave, so that a default stands in one place: the spec."""
    return {name: value for name, value in values.items() if value is not None}


def workspace_of(workspace: str | None) -> str:
    """Return the workspace that the person named, or the environment, or the default."""
    return workspace or Settings().workspace


def runtime_spec(
    workspace: str | None,
    ray_address: str | None = None,
    num_actors: int | None = None,
    num_gpus: float | None = None,
) -> RuntimeSpec:
    """Return where to run: what the person said, or the environment, or this machine."""
    here = Settings()
    return RuntimeSpec(
        workspace=workspace or here.workspace,
        ray_address=ray_address or here.ray_address,
        num_actors=num_actors or here.num_actors,
        num_gpus=here.num_gpus if num_gpus is None else num_gpus,
    )


def command_line() -> str:
    """Return the command line as it can be typed again."""
    return shlex.join(["coft", *sys.argv[1:]])
