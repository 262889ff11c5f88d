"""The plan of a run as values: for the terminal, the summary and the report."""

from typing import Literal

from pydantic import Field

from tasks.pool.understood import ClassList, LabelCounts
from tasks.specs import Spec

Aim = Literal["adapt", "describe", "embed", "predict", "rounds", "templates"]
FIRST = 5  # class names that are shown


class ImagesFound(Spec):
    """Which files are images of the run, by their names alone."""

    by_split: dict[str, dict[str, int]] = Field(description="Images by split and extension.")
    num_tables: int = Field(0, description="Parquet files that hold them.")
    split_folders: dict[str, int] = Field(
        default_factory=dict, description="Images of each first folder that was read as a split."
    )
    skipped: dict[str, int] = Field(
        default_factory=dict, description="Other files by extension; under '' those without one."
    )
    readers: dict[str, str] = Field(
        default_factory=dict, description="Package that would read a skipped extension."
    )
    num_links: int = Field(0, description="Links that lead out of the folder, not followed.")

    @property
    def number(self) -> int:
        """Return how many images there are."""
        return sum(sum(counts.values()) for counts in self.by_split.values())


class ClassesFound(Spec):
    """The class names as they were read: how many, the first ones and the last."""

    number: int
    first: tuple[str, ...]
    last: str
    origin: str
    reading: str = ""


class BackboneFound(Spec):
    """A backbone by its configuration; its weights were not read."""

    name: str
    kind: str
    image_size: int
    embed_dim: int


class Place(Spec):
    """Where a run computes. What is unknown until Ray has started is None."""

    ray_address: str | None = None
    num_cores: int | None = None
    num_gpus: int | None = None
    num_workers: int | None = None
    prefect: str | None = None


class Results(Spec):
    """Where results go."""

    workspace: str
    is_new: bool
    register_as: str | None = None
    tracking: str | None = Field(None, description="Where MLflow keeps runs and models.")


class Reused(Spec):
    """What earlier runs in the workspace computed that this one finds."""

    images: bool = Field(default=False, description="Whether exactly these files were read before.")
    embeddings: int = Field(0, description="Embeddings of the backbone that are there.")
    of_these: bool = Field(default=False, description="Whether they are known to be of the images.")
    steps: tuple[str, ...] = Field((), description="Finished steps of an equal run, in order.")


class Plan(Spec):
    """What a run understood, before it works."""

    digest: str = Field(description="Of all that was asked for and found: equal runs, equal steps.")
    images: ImagesFound
    classes: ClassesFound | None = None
    labels: LabelCounts | None = None
    answers: LabelCounts | None = Field(None, description="Of a file that is learned from.")
    backbone: BackboneFound | None = None
    student: BackboneFound | None = Field(None, description="What Phase II trains instead.")
    model: str | None = Field(None, description="The model that predicts, in place of a backbone.")
    place: Place
    results: Results
    reused: Reused


def classes_found(classes: ClassList) -> ClassesFound | None:
    """Return what is shown of class names; None without any."""
    if not classes.names:
        return None
    return ClassesFound(
        number=len(classes.names),
        first=classes.names[:FIRST],
        last=classes.names[-1],
        origin=classes.origin,
        reading=classes.reading,
    )
