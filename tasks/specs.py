"""Settings of runs and steps: frozen, checked, each with one home and one default."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator
from pydantic.json_schema import SkipJsonSchema

from clipcore.baselines.method_names import LabelledName, Name

COLUMN, FOLDERS = "column", "folders"  # as labels; anything else names a file of them
URI = re.compile(r"(?:\w+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # else a path, also `a//b://c`
Method = Literal["coft", "coft-plus", Name, LabelledName]
Template = Annotated[str, Field(pattern=r"\{\}")]  # without a place for it no class has its own
# Of prompts: DeFT's epochs, and steps below which they learn too little.
EPOCHS, MIN_STEPS = 10, 250


class InputError(ValueError):
    """Bad input of a person. The message says what to do about it; commands exit with 2."""


class GaveUp(RuntimeError):
    """What a run needs did not come in time. The message says what; commands exit with 1."""


class Spec(BaseModel):
    """Frozen parameters; an unknown field is an error, so that a typo never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PoolSpec(Spec):
    """Which images, which class names, which labels (for evaluation only)."""

    images: str = Field(description="Folder, glob, bucket URI, Parquet file or folder of Parquet.")
    classes: str | None = Field(None, description="A file of names, or names split by commas.")
    test: str | None = Field(None, description="Images that are never trained on, same forms.")
    class_column: str | None = Field(
        None, description="Of a file of names: a header, a number from 1, or 'line'."
    )
    labels: str | None = Field(None, description="'folders', 'column', or a file of labels.")
    label_columns: str | None = Field(
        None, description="Of a file of labels: IMAGE,LABEL by header, or by number from 1."
    )
    allow_partial_labels: bool = Field(
        default=False, description="Accept labels of which more than half cannot be used."
    )
    split_folders: Literal["auto", "yes", "no"] = Field(
        "auto", description="Whether first folders called train, val, valid and test are splits."
    )
    rows_per_shard: int = Field(1024, gt=0, description="Images of one Parquet file.")
    max_bytes: int = Field(64 * 2**20, gt=0, description="Largest file that is read.")
    max_pixels: int = Field(128_000_000, gt=0, description="Largest image that is decoded.")
    max_quarantined: float = Field(0.5, ge=0, le=1, description="Share of bad images that stops.")


class BackboneSpec(Spec):
    """A pretrained CLIP: `embedded`, `NAME/TAG`, `local-dir:PATH` or `hf-hub:ORG/NAME`."""

    name: str = Field(
        "embedded", description="'embedded', NAME/TAG, local-dir:PATH or hf-hub:ORG/NAME."
    )


class TopSpec(Spec):
    """How many pseudo-labels of each class are taken for right: the most confident ones."""

    per_class: int = Field(16, gt=0, description="K, the most confident images of each class.")
    min_total: int = Field(1600, ge=0, description="Raise K until these are taken in all.")


class LabelSpec(Spec):
    """First labels by zero-shot, and how many per class start Phase I (papers: $S^*$, K)."""

    templates: tuple[Template, ...] = Field(
        ("a photo of a {}.", "a picture of a {}.", "a photo of the {}."),
        description="Zero-shot prompts; their embeddings are averaged.",
    )
    top: TopSpec = Field(TopSpec(), description="Which of them start Phase I.")


class EndpointSpec(Spec):
    """A server of OpenAI's protocol that writes class sentences; see `COFT_ENDPOINT_KEY`."""

    url: str = Field(description="Base of its API: https://host/v1.")
    model: str = Field(min_length=1, max_length=200, description="As the server calls it.")
    timeout: float = Field(60, gt=0, description="Seconds that one call may take in all.")
    at_once: int = Field(4, gt=0, le=64, description="Calls side by side.")
    max_calls: int = Field(3000, gt=0, description="Calls of a run, retries among them.")
    max_tokens: int = Field(500_000, gt=0, description="Of a run: read and written by the model.")


class SentencesSpec(Spec):
    """Which sets of class sentences have to beat the plain templates, without labels."""

    synonyms: bool = Field(default=True, description="Of WordNet, in the sense of the pool.")
    file: str | None = Field(None, description="JSON: of each class a list of names or sentences.")
    endpoint: EndpointSpec | None = Field(None, description="A language model that writes some.")


class PromptSpec(Spec):
    """Positive and negative contexts that learn, shared by all classes (CoFT Eq. 2 and 3)."""

    num_context_tokens: int = Field(16, gt=0, description="Learned tokens of each sign.")
    memory_mb: int | None = Field(
        None,
        gt=0,
        description="Class chunks are cut to fit this; by default 2048, on a GPU a quarter of what "
        "is free.",
    )


class AdapterSpec(Spec):
    """What the visual tower learns."""

    name: Literal["auto", "vpt", "lora", "bottleneck"] = Field(
        "auto", description="auto is vpt on a ViT, else bottleneck."
    )
    num_visual_prompts: int = Field(20, gt=0, description="Tokens of a block, for vpt.")
    lora_rank: int = Field(8, gt=0, description="Rank of the update of q and v, for lora.")


class SgdSpec(Spec):
    """Stochastic gradient descent with a cosine over all steps (DeFT's recipe)."""

    learning_rate: float = Field(0.03, gt=0, description="At the start of the cosine.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of the steps.")
    weight_decay: float = Field(5e-4, ge=0, description="Of all that learns.")


class DualSpec(Spec):
    """The loss of the negative prompts, L2 (CoFT Eq. 5 and 6)."""

    weight: float = Field(1.0, ge=0, description="Lambda, the weight of L2 beside L1.")
    gradient_mode: Literal["paper", "full", "deft"] = Field(
        "paper", description="What L2 may teach beside the negative prompts."
    )


class Phase1Spec(Spec):
    """Dual prompts and a light adapter on the confident set (CoFT 3.1; DeFT's recipe)."""

    epochs: int = Field(EPOCHS, gt=0, description="Passes over the confident set.")
    min_steps: int = Field(MIN_STEPS, ge=0, description="Raise the epochs until this many steps.")
    batch_size: int = Field(64, gt=0, description="Images of a step.")
    prompts: PromptSpec = Field(PromptSpec(), description="Contexts that learn.")
    adapter: AdapterSpec = Field(AdapterSpec(), description="What learns beside them.")
    sgd: SgdSpec = Field(SgdSpec(), description="The optimizer.")
    dual: DualSpec = Field(DualSpec(), description="The loss of the negative prompts.")


class Phase2Spec(Spec):
    """Full fine-tuning of the visual tower and a linear head on the clean set (CoFT 3.2)."""

    start: Literal["phase1", "original"] = Field(
        "phase1", description="First weights: those of Phase I, or the paper's raw CLIP."
    )
    epochs: int = Field(2, ge=0, description="Passes over the clean set; 0 ends in Phase I.")
    batch_size: int = Field(64, gt=0, description="Images of a step.")
    learning_rate: float = Field(1e-4, gt=0, description="Of AdamW on the tower.")
    head_learning_rate: float = Field(1e-3, gt=0, description="Of AdamW on the linear head.")
    weight_decay: float = Field(5e-4, ge=0, description="Of AdamW.")
    max_images: int = Field(
        1_000_000, gt=0, description="Of more kept labels a share of each class is learned from."
    )
    min_kept: int = Field(
        4, ge=0, description="A class that keeps fewer gets those with the highest gaps."
    )
    norm_statistics: Literal["frozen", "updated"] = Field(
        "frozen", description="Running means and variances of batch norms."
    )
    wise_alphas: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 0.75, 1.0), description="Mixes with Phase I that the guard may choose."
    )
    holdout: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="Share of the pool kept for the guard; with 0 the last epoch is taken.",
    )


class ContrastSpec(Spec):
    """Momentum contrast beside Phase II's cross-entropy (CoFT+ 3.3, Eq. 8 to 10)."""

    weight: float = Field(0.1, ge=0, description="Gamma of Eq. 10; 0 turns it off.")
    momentum: float = Field(0.999, ge=0, le=1, description="Mu of Eq. 8.")
    temperature: float = Field(0.07, gt=0, description="Tau' of Eq. 9.")
    queue_size: int = Field(
        8192, ge=0, description="Keys that wait, at most half of the images; 4 bytes a number."
    )


class NeighboursSpec(Spec):
    """Label propagation over what both towers see, before the cross-filter.

    Reference: Zhou et al. 2004, Learning with local and global consistency, section 2.
    """

    k: int = Field(10, ge=0, description="Nearest images that each one listens to; 0 turns it off.")
    rounds: int = Field(
        1, gt=0, description="Trainings of Phase II, each on labels by the networks of the last."
    )
    steps: int = Field(15, gt=0, description="How far a label travels.")
    alpha: float = Field(0.9, ge=0, lt=1, description="How much neighbours count.")
    max_images: int = Field(
        50_000, gt=0, description="Images of the graph; others listen to the nearest ones in it."
    )


class ConsistencySpec(Spec):
    """A slow teacher labels all images for a student who sees less of them, in Phase II.

    Mean Teacher (https://arxiv.org/abs/1703.01780) with the rule of FixMatch
    (https://arxiv.org/abs/2001.07685).
    """

    weight: float = Field(0.0, ge=0, description="Beside the cross-entropy; 0 turns it off.")
    momentum: float = Field(0.99, ge=0, le=1, description="Of the teacher.")
    threshold: float = Field(
        0.8, ge=0, le=1, description="Confidence from which the teacher is believed."
    )


class PlusSpec(Spec):
    """What CoFT+ adds to CoFT (https://arxiv.org/abs/2602.04337, 3.3)."""

    rounds: int = Field(
        2, ge=0, description="Further trainings of Phase I, each from labels of the one before."
    )
    subsets: Literal["own", "crossed"] = Field(
        "own", description="Whether a peer starts a round from its own labels or the other one's."
    )
    neighbours: NeighboursSpec = Field(
        NeighboursSpec(), description="Labels that images which look alike agree on."
    )
    contrast: ContrastSpec = Field(ContrastSpec(), description="Beside Phase II's loss.")
    consistency: ConsistencySpec = Field(
        ConsistencySpec(), description="A slow teacher in Phase II."
    )
    colours: bool = Field(
        default=True, description="Views change colours; not where these tell classes apart."
    )


class CollaborationSpec(Spec):
    """How the peers of CoFT work together; the paper's way, and what it can be compared with.

    Its ablations are not in the paper: self-validation beside cross-validation, one model beside
    two, and no negative prompt, by which nothing is judged.
    """

    num_peers: int = Field(2, ge=1, le=2, description="Peers of Phase I, networks of Phase II.")
    judge: Literal["other", "own", "none"] = Field(
        "other",
        description="Whose negative prompt rejects labels of a peer: the other one's, its own, or "
        "nobody's, so that all labels are kept. One peer judges itself.",
    )


class GateSpec(Spec):
    """What a model must show to become `candidate`; nothing of it needs a label.

    The bounds are chosen, not derived: far from what healthy runs show (CIFAR-10, Tiny ImageNet,
    digits: agreement 0.89 to 0.94, kept share 0.79 to 0.98, drift up to 0.12, no class lost), so
    that a collapse is stopped and a merely different model is not.
    """

    min_agreement: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of images that both networks put in the same class. Disagreement "
        "estimates the error (arXiv 2106.13799): below a half, most labels are wrong.",
    )
    min_kept_share: float = Field(
        0.1, ge=0, le=1, description="Share of the pseudo-labels that the cross-filter keeps."
    )
    max_drift: float = Field(
        0.4, ge=0, le=1, description="Total variation of the class shares from zero-shot."
    )
    lost_share: float = Field(
        0.1, ge=0, le=1, description="A class below this part of its zero-shot share is lost."
    )
    max_lost_classes: int = Field(0, ge=0, description="Lost classes that are accepted.")


class ReviewSpec(Spec):
    """Which predictions a person should look at."""

    below: float = Field(ge=0, le=1, description="Those of a lower confidence.")
    foreign: float = Field(
        0.99, ge=0, le=1, description="And those that so large a share of the pool outdoes."
    )
    most: int = Field(500, gt=0, description="The most doubtful ones.")


class RuntimeSpec(Spec):
    """Where and how wide a run goes. Nothing here changes a result, so it is in no digest."""

    workspace: str = Field("coft-workspace", description="Folder or URI of all results.")
    ray_address: str | None = Field(
        None, description="A Ray cluster to join, such as 'auto'; by default Ray starts here."
    )
    num_actors: int | None = Field(None, gt=0, description="Workers; by default as nodes allow.")
    num_gpus: float = Field(0, ge=0, description="GPUs of each worker.")
    wait_minutes: float = Field(10, ge=0, description="How long to wait for room on a cluster.")
    on_busy: Literal["wait", "end"] = Field(
        "wait", description="What to do while another run is at work in the workspace."
    )
    batch_size: int | None = Field(
        None,
        gt=0,
        description="Images of one forward pass without gradients; default by device and memory.",
    )
    pixel_cache: ByteSize | None = Field(
        None,
        description="Disk of each machine for decoded images, as 8GiB; 0 keeps none. By default a "
        "quarter of what is free, at most 32 GiB.",
    )

    @field_validator("workspace")
    @classmethod
    def _same_for_every_worker(cls, value: str) -> str:
        """Make a local path absolute: a worker may have another working folder."""
        if URI.match(value):
            return value
        return str(Path(os.path.expanduser(value)).absolute())  # noqa: PTH111  # as ~x is


class CoftSpec(Spec):
    """Everything that `coft adapt` was asked to do."""

    pool: PoolSpec = Field(description="The images, their class names, labels for evaluation.")
    register_as: str | None = Field(None, description="Name in the model registry.")
    method: Method = Field("coft", description="How to adapt; zero-shot trains nothing.")
    backbone: BackboneSpec = Field(BackboneSpec(), description="The pretrained CLIP.")
    student: BackboneSpec | None = Field(
        None, description="Another CLIP that Phase II trains, on the labels of the first one."
    )
    label: LabelSpec = Field(LabelSpec(), description="First labels by zero-shot.")
    templates: str | None = Field(None, description="File of class sentences to use as they are.")
    sentences: SentencesSpec = Field(
        SentencesSpec(), description="For coft-plus: sets of class sentences to choose from."
    )
    phase1: Phase1Spec = Field(Phase1Spec(), description="Two peers on the confident images.")
    collaboration: CollaborationSpec = Field(
        CollaborationSpec(), description="For coft: what the peers have to do with each other."
    )
    phase2: Phase2Spec = Field(Phase2Spec(), description="Two whole towers on the kept labels.")
    plus: PlusSpec = Field(PlusSpec(), description="For coft-plus.")
    gate: GateSpec = Field(GateSpec(), description="What a model must show to be a candidate.")
    seed: int = Field(0, ge=0, description="Of every draw.")
    flip: bool = Field(default=True, description="Whether a mirrored image shows the same class.")
    runtime: RuntimeSpec = Field(RuntimeSpec(), description="Where and how wide it runs.")
    answers: str | None = Field(
        None, description="Labels of people to learn from: a file of them, or the folder of rounds."
    )
    command: SkipJsonSchema[str] = Field("", description="The command line, for the report.")
