"""What the report is made from: references to the finished files of one run, and its times."""

from pydantic import Field

from tasks.plan.facts import Plan
from tasks.refs import (
    AnswersRef,
    BackboneRef,
    EmbeddingsRef,
    EvaluationRef,
    ImagesRef,
    LabelsRef,
    ModelRef,
    PeerRef,
    PredictionsRef,
    SentencesRef,
    StageName,
    TaskRef,
)
from tasks.specs import CoftSpec, Spec


class StageTime(Spec):
    """How long a stage took to compute, in this run or in the earlier one that computed it."""

    name: StageName
    seconds: float = Field(ge=0)
    num_images: int = Field(default=0, ge=0, description="Images it went through; 0: unknown.")
    resumed: bool = False


class Registered(Spec):
    """Where the registry keeps the model."""

    uri: str
    version: str | None = None


class ReportInputs(Spec):
    """The finished files of a run; what its method does not have is None or empty."""

    spec: CoftSpec
    backbone: BackboneRef
    images: ImagesRef
    task: TaskRef
    before: EmbeddingsRef
    after: EmbeddingsRef | None = None
    sentences: SentencesRef | None = Field(default=None, description="Chosen for the classes.")
    zero_shot: LabelsRef
    answers: AnswersRef | None = Field(default=None, description="Labels of people, trained on.")
    confident: tuple[LabelsRef, ...] = Field((), description="Of all rounds of Phase I.")
    neighbours: tuple[LabelsRef, ...] = ()
    clean: tuple[LabelsRef, ...] = ()
    peers: tuple[PeerRef, ...] = Field(default=(), description="Of both phases, in any order.")
    model: ModelRef
    predictions: PredictionsRef | None = Field(default=None, description="Of the adapted model.")
    evaluation: EvaluationRef
    stages: tuple[StageTime, ...] = ()
    run_id: str = ""
    registered: Registered | None = None
    plan: Plan | None = Field(default=None, description="What the run understood before it worked.")
