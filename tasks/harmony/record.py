"""The stages of a state: a folder for each, finished when its manifest is there."""

import re
from contextlib import suppress
from typing import Literal

from pydantic import Field, ValidationError

from tasks.annotations.spelling import fold
from tasks.harmony.specs import BeginSpec, KeepSpec, StageTrainingSpec
from tasks.refs import BackboneRef, Ref
from tasks.specs import InputError, Spec
from tasks.storage.digests import ShardMismatch
from tasks.storage.files import exists, names_in, reaching, read_json, write_json
from tasks.storage.manifest import Manifest, read_manifest
from tasks.storage.uris import absolute, join, redact

ACCURACY = "accuracy.json"
KIND = "harmony"
_STAGE = re.compile(r"(\d{3})-.+")


class StageRecord(Spec):
    """What is known of a finished stage, beside what it learned."""

    number: int = Field(gt=0, description="Of the stage, from 1.")
    modality: str
    kind: Literal["images", "embeddings"]
    origin: str = Field(description="Where the samples were.")
    labels: str | None = Field(None, description="How images were labelled.")
    width: int = Field(description="Numbers of a sample.")
    num_train: int = Field(description="Samples that were learned from.")
    num_test: int = 0
    left_out: dict[str, int] = Field(default_factory=dict, description="Other samples, and why.")
    classes: tuple[str, ...] = Field(description="All so far.")
    seen: dict[str, int] = Field(description="Samples of each class that the stage had.")
    backbone: BackboneRef = Field(description="Whose text tower knows the class names.")
    tower: BackboneRef | None = Field(None, description="What made features of the images.")
    begin: BeginSpec = Field(description="What the first stage decided.")
    training: StageTrainingSpec
    keep: KeepSpec
    seed: int
    anchors: str = Field(description="Digest of the embeddings of the class names.")
    memory_bytes: int = Field(description="What is kept of the modality, stem and part apart.")
    state_bytes: int = Field(description="Of all that is kept.")


class Measured(Spec):
    """How right a state is about one modality."""

    accuracy: float
    guessed: float = Field(description="The same where nobody says which modality it is.")
    count: int = Field(description="Test samples.")


class StageRef(Ref):
    """A finished stage of a state: `weights.safetensors`, and what `record` says."""

    record: StageRecord
    model_uri: str | None = Field(None, description="Of the version that a run registered it as.")


class StateRef(Spec):
    """A state as it was before a stage."""

    uri: str = Field(description="Folder of the state.")
    stages: tuple[StageRef, ...] = ()

    @property
    def last(self) -> StageRef | None:
        """Return the newest stage."""
        return self.stages[-1] if self.stages else None

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names so far."""
        return self.stages[-1].record.classes if self.stages else ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the names of what was learned, in order."""
        return tuple(stage.record.modality for stage in self.stages)

    def stage_of(self, modality: str) -> StageRef | None:
        """Return the stage of a modality, however its name is spelled."""
        wanted = fold(modality)
        return next((one for one in self.stages if fold(one.record.modality) == wanted), None)

    def before(self, stage: StageRef) -> "StateRef":
        """Return the state as it was before a stage."""
        return StateRef(uri=self.uri, stages=self.stages[: stage.record.number - 1])


def read_state(uri: str) -> StateRef:
    """Return the finished stages of a state; a new state has none.

    Raises:
        InputError: the folder cannot be read, or a stage between others is missing.
    """
    folder = absolute(uri)
    with reaching(uri):
        names = sorted(name for name in names_in(folder) if _STAGE.fullmatch(name))
    stages = []
    for name in names:
        stage = join(folder, name)
        manifest = _manifest(stage)
        if manifest is not None:
            stages.append(_stage(stage, manifest))
    numbers = [stage.record.number for stage in stages]
    if numbers != list(range(1, len(stages) + 1)):
        got = ", ".join(map(str, numbers))
        raise InputError(
            f"{redact(uri)}: expected the stages 1 to {len(stages)}, found {got}; a folder of a "
            "stage is missing or stands there twice. Restore it, or begin another --state."
        )
    return StateRef(uri=folder, stages=tuple(stages))


def existing_state(uri: str) -> StateRef:
    """Return a state that has learned something.

    Raises:
        InputError: there is none.
    """
    state = read_state(uri)
    if not state.stages:
        raise InputError(
            f"{redact(uri)}: expected the folder of a state, found no finished stage there; "
            "`coft harmony learn --state FOLDER ...` begins one."
        )
    return state


def stage_folder(state: StateRef, modality: str) -> str:
    """Return the folder of the stage that comes next."""
    slug = re.sub(r"[^\w.-]+", "-", fold(modality), flags=re.ASCII).strip("-.") or "modality"
    return join(state.uri, f"{len(state.stages) + 1:03}-{slug}")


def read_accuracy(stage: StageRef) -> dict[str, Measured]:
    """Return what was measured after a stage, by modality."""
    uri = join(stage.uri, ACCURACY)
    if not exists(uri):
        return {}
    return {name: Measured.model_validate(one) for name, one in read_json(uri).items()}


def write_accuracy(stage: StageRef, measured: dict[str, Measured]) -> None:
    """Add what was measured after a stage to what is known."""
    known = {**read_accuracy(stage), **measured}
    values = {name: one.model_dump() for name, one in known.items()}
    write_json(join(stage.uri, ACCURACY), values)


def _manifest(folder: str) -> Manifest | None:
    with suppress(ShardMismatch):
        return read_manifest(folder)
    return None


def _stage(folder: str, manifest: Manifest) -> StageRef:
    try:
        record = StageRecord.model_validate(manifest.facts)
    except ValidationError as error:
        raise InputError(
            f"{redact(folder)}: expected a stage of Harmony, got something else; name the folder "
            "of a state, or begin another one."
        ) from error
    return StageRef(
        uri=folder,
        digest=manifest.digest,
        rows=record.num_train,
        seconds=manifest.seconds,
        record=record,
    )
