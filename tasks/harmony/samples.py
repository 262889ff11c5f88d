"""What a stage learns from and is measured on: images or Parquet, checked before it begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from clipcore.harmony.samples import Samples
from tasks.backbone import find_backbone
from tasks.compute.calls import run_tasks
from tasks.harmony.backbones import tower_of_stage
from tasks.harmony.files import classes_of, find_files
from tasks.harmony.looks import LabelledLook, Look, open_look, survey_look
from tasks.harmony.predicted import (
    PredictedLook,
    PredictedSamples,
    open_predicted,
    survey_predicted,
)
from tasks.harmony.record import StateRef
from tasks.harmony.rows import LabelledRows, Rows
from tasks.harmony.specs import StageSpec
from tasks.harmony.survey import Survey, survey
from tasks.progress import say
from tasks.refs import BackboneRef
from tasks.specs import RuntimeSpec
from tasks.storage.digests import fingerprint
from tasks.storage.layout import claim_workspace
from tasks.storage.stage import step


@dataclass(frozen=True)
class Found:
    """The samples of a stage.

    Attributes:
        modality: Whose they are.
        survey: How many there are of what.
        offered: Class names that their files offer.
        look: Images, their features and labels.
        tower: What made these.
        files: Or Parquet files of features.
    """

    modality: str
    survey: Survey
    offered: tuple[str, ...] = ()
    look: Look | PredictedLook | None = None
    tower: BackboneRef | None = None
    files: tuple[str, ...] = ()

    def train(self, classes: tuple[str, ...]) -> Samples:
        """Return what is learned from."""
        if isinstance(self.look, PredictedLook):
            return PredictedSamples(self.look, classes)
        if self.look is not None:
            return LabelledLook(self.look, classes, "pool")
        return LabelledRows(Rows(self.files, self.modality, "train"), classes)

    def test(self, classes: tuple[str, ...]) -> Samples:
        """Return what is measured on; of images that a model labels there is nothing."""
        if isinstance(self.look, Look):
            return LabelledLook(self.look, classes, "test")
        return LabelledRows(Rows(self.files, self.modality, "test"), classes)


def find_samples(spec: StageSpec, before: StateRef) -> Found:
    """Look at all samples of a stage; images are listed, read and embedded first.

    Raises:
        InputError: anything in the input that has to be corrected.
    """
    found = _of_images(spec, before) if spec.pool is not None else find_features(spec)
    say(_told(spec.modality, found.survey))
    return found


@step("features")
def find_features(spec: StageSpec) -> Found:
    """Look at all rows of a modality in Parquet files."""
    claim_workspace(spec.runtime.workspace)
    uri = str(spec.embeddings)
    ((_, counted),) = run_tasks(survey, [(uri, spec.modality)], runtime=spec.runtime)
    files = find_files(uri)
    return Found(spec.modality, cast("Survey", counted), offered=classes_of(files), files=files)


def _of_images(spec: StageSpec, before: StateRef) -> Found:
    assert spec.pool is not None  # noqa: S101  # as the caller knows
    tower = find_backbone(tower_of_stage(spec, before), spec.runtime)
    if spec.predicted is not None:
        said = open_predicted(spec.pool, spec.predicted, tower, spec.runtime)
        counted = survey_predicted(said)
        return Found(spec.modality, counted, offered=said.classes, look=said, tower=tower)
    look = open_look(spec.pool, tower, spec.runtime)
    counted = survey_look(look)
    return Found(spec.modality, counted, offered=look.task.classes, look=look, tower=tower)


def _told(modality: str, found: Survey) -> str:
    parts = [f"{found.num_train:,} to learn from", f"{found.num_test:,} to test"]
    if found.num_unlabelled:
        parts.append(f"{found.num_unlabelled:,} without a label left out")
    if found.num_other:
        parts.append(f"{found.num_other:,} of other splits left out")
    return f"Samples of {modality}: {', '.join(parts)}; {found.width} numbers each"


@step("look at features")
def digest_of_features(uri: str, modalities: Sequence[str], runtime: RuntimeSpec) -> str:
    """Look at all rows of modalities in Parquet files; return a digest of what is learned from.

    Raises:
        InputError: there are none of a modality, or some cannot be used.
    """
    claim_workspace(runtime.workspace)
    items = [(uri, name) for name in modalities]
    found = dict(run_tasks(survey, items, runtime=runtime))
    return fingerprint("features", [found[place].content for place in range(len(items))])
