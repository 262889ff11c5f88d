"""What the commands have in common: options, how they become specs, and what is told at the end."""

import re
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from infra.settings import Settings
from tasks.on_demand import OnDemand
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    GateSpec,
    LabelSpec,
    Phase1Spec,
    PoolSpec,
    RuntimeSpec,
    Spec,
)

if TYPE_CHECKING:
    from tasks.storage import files as targets
    from tasks.storage import layout
else:
    layout, targets = OnDemand("tasks.storage.layout"), OnDemand("tasks.storage.files")

Images = Annotated[str, Parameter(help="Folder, glob, bucket URI, Parquet file or folder of it.")]
Classes = Annotated[
    str | None, Parameter(help="A file (names one a line, CSV, JSON), or 'cat,dog,...'.")
]
ClassColumn = Annotated[
    str | None,
    Parameter(help="Where --classes FILE has the names: a header, a number from 1, or 'line'."),
]
Test = Annotated[str | None, Parameter(help="Images that are never trained on.")]
Labels = Annotated[
    str | None, Parameter(help="For evaluation only: 'folders', 'column', or a file.")
]
LabelColumns = Annotated[
    str | None,
    Parameter(help="Where a file of labels has them: IMAGE,LABEL, headers or numbers from 1."),
]
AllowPartial = Annotated[
    bool, Parameter(help="Accept labels of which most cannot be used.", negative="")
]
SplitFolders = Annotated[
    Literal["auto", "yes", "no"],
    Parameter(help="Whether first folders called train, val, valid and test say what is held out."),
]
Workspace = Annotated[str | None, Parameter(help="Folder or URI of all results.")]
Backbone = Annotated[
    str, Parameter(help="'embedded', NAME/TAG of open_clip, local-dir:PATH or hf-hub:ORG/NAME.")
]
Model = Annotated[str, Parameter(help="models:/NAME@champion, models:/NAME/3, or a folder.")]
Register = Annotated[str | None, Parameter(help="Name in the model registry.")]
RowsPerShard = Annotated[int | None, Parameter(help="Images of one Parquet file.")]
Seed = Annotated[int, Parameter(help="Of every draw; the same seed gives the same result.")]
Summary = Annotated[
    str | None,
    Parameter(
        help="Write what came of it to this JSON file.",
        validator=lambda _, file: file is None or targets.check_target(file),
    ),
]
DryRun = Annotated[
    bool, Parameter(help="Say what would be done, and stop before anything is.", negative="")
]
Flip = Annotated[bool, Parameter(help="A mirrored image shows the same class.")]


LONGEST_NAME = 60  # characters of a name that is made from where images are


def default_of(spec: type[Spec], field: str) -> Any:
    """Return the default of a spec's field, so that it stands there alone."""
    return spec.model_fields[field].default


def given(**values: object) -> dict[str, Any]:
    """Return what the person gave; of the rest the spec knows the defaults."""
    return {name: value for name, value in values.items() if value is not None}


def workspace_of(workspace: str | None) -> str:
    """Return the workspace that the person named, or the environment, or the default."""
    return workspace or Settings().workspace


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Where results and their summary are kept, and how wide a command runs."""

    workspace: Workspace = None
    summary: Summary = None
    ray_address: Annotated[str | None, Parameter(help="Ray cluster to join.")] = None
    num_actors: Annotated[int | None, Parameter(help="Workers that hold a model.")] = None
    num_gpus: Annotated[float | None, Parameter(help="GPUs of each worker.")] = None
    wait_minutes: Annotated[
        float | None, Parameter(help="How long to wait for room on a cluster; 10.")
    ] = None
    on_busy: Annotated[
        Literal["wait", "end"] | None,
        Parameter(help="While another run is at work in the workspace: wait, or end at once."),
    ] = None
    pixel_cache: Annotated[
        str | None, Parameter(help="Disk of each machine for decoded images: 8GiB; 0 keeps none.")
    ] = None

    @property
    def runtime(self) -> RuntimeSpec:
        """Return where to run: what the person said, or the environment, or this machine.

        Raises:
            InputError: the workspace was written by another version of coft.
        """
        here = Settings()
        layout.check_workspace(self.workspace or here.workspace)
        return RuntimeSpec(
            workspace=self.workspace or here.workspace,
            ray_address=self.ray_address or here.ray_address,
            num_actors=self.num_actors or here.num_actors,
            num_gpus=here.num_gpus if self.num_gpus is None else self.num_gpus,
            pixel_cache=here.pixel_cache if self.pixel_cache is None else self.pixel_cache,
            **given(wait_minutes=self.wait_minutes, on_busy=self.on_busy),
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class About:
    """What a run is about: images, classes, backbone, and how CoFT begins with them."""

    images: Images
    classes: Classes = None
    test: Test = None
    class_column: ClassColumn = None
    labels: Labels = None
    label_columns: LabelColumns = None
    allow_partial_labels: AllowPartial = default_of(PoolSpec, "allow_partial_labels")
    split_folders: SplitFolders = default_of(PoolSpec, "split_folders")
    backbone: Backbone = default_of(BackboneSpec, "name")
    seed: Seed = default_of(CoftSpec, "seed")
    flip: Flip = default_of(CoftSpec, "flip")
    dry_run: DryRun = False
    rows_per_shard: RowsPerShard = None
    max_quarantined: Annotated[
        float | None, Parameter(help="Stop when more than this share of the images is bad.")
    ] = None
    templates: Annotated[
        str | None, Parameter(help="Class sentences to use: what `coft templates` wrote, or JSON.")
    ] = None
    label: Annotated[LabelSpec, Parameter(group="First labels", negative="")] = LabelSpec()
    phase1: Annotated[Phase1Spec, Parameter(group="Phase I", negative="")] = Phase1Spec()
    gate: Annotated[GateSpec, Parameter(group="Gate", negative="")] = GateSpec()

    def spec(self, where: Where, **more: Any) -> CoftSpec:
        """Return the run; its plan says whether its input is there and usable."""
        pool = PoolSpec(
            images=self.images,
            classes=self.classes,
            test=self.test,
            class_column=self.class_column,
            labels=self.labels,
            label_columns=self.label_columns,
            allow_partial_labels=self.allow_partial_labels,
            split_folders=self.split_folders,
            **given(rows_per_shard=self.rows_per_shard, max_quarantined=self.max_quarantined),
        )
        return CoftSpec(
            pool=pool,
            backbone=BackboneSpec(name=self.backbone),
            seed=self.seed,
            flip=self.flip,
            templates=self.templates,
            label=self.label,
            phase1=self.phase1,
            gate=self.gate,
            runtime=where.runtime,
            command=command_line(),
            **more,
        )


def name_from(images: str, *, otherwise: str, flags: re.RegexFlag = re.UNICODE) -> str:
    """Return a name from where images are, short, of characters that have no meaning elsewhere.

    Args:
        images: A folder, glob, file or URI.
        otherwise: The name where nothing is left of it.
        flags: Which letters may stay, all or `re.ASCII`.
    """
    stem = unicodedata.normalize("NFC", Path(images.rstrip("/")).stem)
    name = re.sub(r"[^\w.-]+", "-", stem, flags=flags)[:LONGEST_NAME].strip("-._")
    return name or otherwise


def tell(text: str) -> None:
    """Print a line for the person, as it is."""
    Console(highlight=False, soft_wrap=True, emoji=False).print(text, markup=False)


def conclude(summary: str | None, facts: Mapping[str, object], lines: Iterable[str]) -> None:
    """Tell a person what a command made, in lines, and a program in JSON where it was asked for."""
    for line in lines:
        tell(line)
    if summary is not None:
        targets.write_json(summary, facts)


def command_line() -> str:
    """Return the command line as it can be typed again."""
    return shlex.join(["coft", *sys.argv[1:]])
