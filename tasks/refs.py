"""What a step hands on (`...Ref`): references to finished files, with counts and never data.

They pass through Prefect and survive a restart.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field, JsonValue

from tasks.specs import Spec

Split = Literal["pool", "test"]
PEERS = (1, 2)


class ModelKind(StrEnum):
    """What a model is, in its `model.json` and in the tag `kind` of its version."""

    CLASSIFIER = "classifier"
    HARMONY = "harmony"
    LIBRA = "libra"

    @property
    def words(self) -> str:
        """Return what people call it."""
        return _WORDS[self]


_WORDS = {
    ModelKind.CLASSIFIER: "a classifier of images",
    ModelKind.HARMONY: "a model of several kinds of data",
    ModelKind.LIBRA: "a language model that sees",
}


class Reason(StrEnum):
    """Why a label was kept or not: slugs in the column `reason`; the report has the words."""

    KEPT = ""
    ANSWERED = "answered"
    NONE_FITS = "none-fits"
    HELD_OUT = "held-out"
    REJECTED = "rejected"
    RESCUED = "rescued"
    NOT_CONFIDENT = "not-confident"
    CLASS_NOT_PREDICTED = "class-not-predicted"


class Ref(Spec):
    """A finished stage: its folder in the workspace, and what its manifest says of it."""

    uri: str = Field(description="Folder of the stage in the workspace.")
    digest: str = Field(description="Of everything that the files were made from.")
    rows: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=0, description="Time that computing it took, whenever that was.")
    resumed: bool = Field(default=False, description="Whether this run found it finished.")


class ImagesRef(Ref):
    """`images/part-*.parquet`, `quarantine/part-*.parquet`: the images of a run, without pixels.

    The digest is of the content: which images there are, and which of them are for testing. Where
    they lie, in which order and how often does not change it; the folder is named by these.
    """

    num_pool: int = Field(ge=0, description="Distinct images that may be trained on.")
    num_test: int = Field(ge=0, description="Distinct images for evaluation only.")
    num_duplicates: int = Field(ge=0)
    num_quarantined: int = Field(ge=0)


class TaskRef(Ref):
    """`part-*.parquet` of (image_id, split, label): the classes, and true labels for evaluation.

    Labels of models and trainings depend on the classes, never on the digest, which is also of the
    true labels.
    """

    classes: tuple[str, ...]
    labeled: bool = Field(description="Whether images have labels for evaluation.")


class BackboneRef(Spec):
    """A backbone that was found, fits, and can be loaded again by any worker."""

    name: str
    kind: Literal["vit", "timm"]
    embed_dim: int
    image_size: int
    quick_gelu: bool
    weights_sha256: str
    preprocess_hash: str


class EmbeddingsRef(Ref):
    """`part-*.parquet` of (image_id, embedding), L2-normalised, of these and of other images.

    The digest says which images they are of: those of an `ImagesRef` without those in quarantine.
    """

    run: str = Field("", description="Folder that says which parts these are; `uri` by default.")
    dim: int
    num_quarantined: int = 0
    model: str = Field(description="Backbone name, or the folder of the weights that were used.")


class SentencesRef(Ref):
    """The class sentences that are used, and how they were chosen."""

    file: str = Field(description="`sentences.json`, which `--templates` takes.")
    chosen: str = Field(description="The name of the set.")
    content: str = Field(
        "", description="Digest of the sentences; empty for those of the plain templates."
    )


class LabelsRef(Ref):
    """`part-*.parquet` of (image_id, source, label, confidence, gap, kept, reason)."""

    source: str
    num_kept: int = 0


class AnswersRef(Ref):
    """A Parquet file of (image_id, kind, label, ...): what people decided, one row an image."""

    num_labels: int = Field(0, ge=0, description="Images of which somebody named the class.")


class PeerRef(Ref):
    """One peer's weights of one phase (`weights.safetensors`) and its `history.json`."""

    peer: int
    phase: Literal[1, 2]
    round: int = Field(0, ge=0, description="Of Phase I; CoFT has no further one.")
    num_left_out: int = Field(0, ge=0, description="Kept labels that it did not learn from.")
    num_parameters: int = Field(0, ge=0, description="Numbers that its training changed.")
    peak_bytes: int = Field(0, ge=0, description="By how much its process grew at most.")


class Phase1Round(Spec):
    """One training of Phase I: what both peers learned from, what came of it, what they see.

    `confident` has one labelling for both peers, or one for each.
    """

    confident: tuple[LabelsRef, ...]
    peers: tuple[PeerRef, ...]
    features: tuple[EmbeddingsRef, ...]


class Phase2Round(Spec):
    """One training of Phase II: the labels that were judged, what was kept, what came of it."""

    neighbours: LabelsRef | None = Field(None, description="What the peers judged, in CoFT+.")
    clean: tuple[LabelsRef, ...]
    networks: tuple[PeerRef, ...]

    @property
    def labels(self) -> tuple[LabelsRef, ...]:
        """Return all labels of the round."""
        return (self.neighbours, *self.clean) if self.neighbours else self.clean


class Stages(Spec):
    """The stages of a run of CoFT, from images to trained networks; zero-shot trains none."""

    images: ImagesRef
    task: TaskRef
    backbone: BackboneRef
    embeddings: EmbeddingsRef
    sentences: SentencesRef | None = None
    zero_shot: LabelsRef
    answers: AnswersRef | None = None
    phase1: tuple[Phase1Round, ...] = Field((), description="Its rounds; CoFT has one.")
    phase2: tuple[Phase2Round, ...] = Field((), description="Its rounds; CoFT has one.")

    @property
    def confident(self) -> tuple[LabelsRef, ...]:
        """Return what the peers learned from, of all rounds."""
        return tuple(labels for one in self.phase1 for labels in one.confident)

    @property
    def peers(self) -> tuple[PeerRef, ...]:
        """Return the peers that filtered each other's labels: those of the last round."""
        return self.phase1[-1].peers if self.phase1 else ()

    @property
    def features(self) -> tuple[EmbeddingsRef, ...]:
        """Return the images as those peers see them."""
        return self.phase1[-1].features if self.phase1 else ()

    @property
    def neighbours(self) -> tuple[LabelsRef, ...]:
        """Return the labels by neighbours that the peers judged, of all rounds."""
        return tuple(one.neighbours for one in self.phase2 if one.neighbours)

    @property
    def trained(self) -> tuple[PeerRef, ...]:
        """Return every peer and every network, in the order of their training."""
        peers = [peer for one in self.phase1 for peer in one.peers]
        return (*peers, *(network for one in self.phase2 for network in one.networks))

    @property
    def clean(self) -> tuple[LabelsRef, ...]:
        """Return what the networks of the last round learned from."""
        return self.phase2[-1].clean if self.phase2 else ()


class ModelRef(Ref):
    """A classifier ready to serve: `model.json` and one safetensors file per member."""

    facts: dict[str, JsonValue] = Field(default_factory=dict, description="How it was chosen.")
    health: dict[str, float] = Field(default_factory=dict, description="Label-free measures.")
    healthy: bool = True
    verdict: str = ""


class PredictionsRef(Ref):
    """`part-*.parquet` of (image_id, uri, split, label, confidence, ...): schema `PREDICTIONS`."""

    num_quarantined: int = 0
    features: tuple[EmbeddingsRef, ...] = Field(default=(), description="What each member saw.")
    compared_with: str = Field("", description="The pool of `none_of_these`, in words.")


class EvaluationRef(Ref):
    """`metrics.json` and the predictions that it was made from."""

    zero_shot_accuracy: float | None = None
    accuracy: float | None = None
    transductive: bool = False


class Files(Spec):
    """What became of the files that a run was given."""

    num_images: int = Field(0, ge=0, description="Files or rows that are images by their names.")
    quarantined: dict[str, int] = Field(
        default_factory=dict, description="Those of them that could not be used, by reason."
    )
    skipped: dict[str, int] = Field(
        default_factory=dict, description="Other files, by extension; under '' those without one."
    )


class RunSummary(Spec):
    """What `--summary` writes."""

    method: str
    backbone: str
    num_images: int
    num_quarantined: int
    files: Files = Field(Files(), description="All files, copies and unusable ones included.")
    num_answers: int = Field(0, description="Labels of people that were trained on.")
    zero_shot_accuracy: float | None
    accuracy: float | None
    per_class: dict[str, dict[str, float | None]]
    model_uri: str | None
    model_version: str | None
    run_id: str
    report: str
    seconds_by_stage: dict[str, float]
    total_seconds: float
    images_per_second: float
    healthy: bool
    verdict: str
    predictions: str = Field("", description="Folder with what the model says of every image.")
    taught: tuple[str, ...] = Field(
        (), description="Folders of the labels that were learned from last."
    )
    num_parameters: int = Field(0, description="Numbers that all trainings changed.")
    peak_bytes: int = Field(
        0, description="Memory that the largest training took, without that of a GPU."
    )


class StageName(StrEnum):
    """The stages of a run as its times and its report call them, in order."""

    POOL = "pool"
    EMBED = "embed"
    LABEL = "label"
    PHASE_1 = "phase 1"
    EMBED_WITH_PEERS = "embed with peers"
    CROSS_FILTER = "cross-filter"
    PHASE_2 = "phase 2"
    GUARD = "guard"
    PREDICT = "predict"
    EVALUATE = "evaluate"
