"""Settings of Harmony: of one stage, and of a prediction."""

from typing import Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from tasks.specs import BackboneSpec, PoolSpec, RuntimeSpec, Spec, Template


class KeepSpec(Spec):
    """What keeps the earlier modalities while another one is learned; see clipcore/harmony."""

    modulation: Literal["class-wise", "learned"] = Field(
        "class-wise", description="Historical features from class statistics, or as written."
    )
    rho: float = Field(0.5, ge=0, le=1, description="How much of today's sample is in them.")
    retention: float = Field(1.0, ge=0, description="Weight of what keeps earlier answers.")
    instance: float = Field(0.0, ge=0, description="Weight of instance alignment.")
    distribution: float = Field(0.0, ge=0, description="Weight of distribution alignment.")
    aggregate: bool = Field(
        default=False, description="Listen to the branches of earlier modalities: slower."
    )


class StageTrainingSpec(Spec):
    """How long and how fast a modality is learned."""

    steps: int = Field(300, gt=0, description="Optimizer steps.")
    batch_size: int = Field(48, gt=0, description="Samples of a step.")
    learning_rate: float = Field(1e-3, gt=0, description="Of AdamW at the first step.")
    freeze_trunk: bool = Field(
        default=False, description="Learn the shared trunk at the first stage alone: forgets 0."
    )


class BeginSpec(Spec):
    """What the first stage decides for all that follow."""

    trunk: Literal["mlp", "transformer"] = Field("mlp", description="What all modalities share.")
    dim: int | None = Field(
        None, gt=0, description="Numbers that it sees; 256 where images come first, else 128."
    )
    template: Template = Field("a photo of a {}.", description="Sentence of a class name.")


class PredictedSpec(Spec):
    """Labels of images by a model that knows their look; one that does not must not give any."""

    model: str = Field(description="models:/NAME@champion, or the folder of a model.")
    min_confidence: float = Field(
        0.8, ge=0, le=1, description="An image of which the model is less sure is left out."
    )


class StageSpec(Spec):
    """One stage: a modality, where its samples are, and how they are learned."""

    state: str = Field(description="Folder or URI of all that is learned so far.")
    modality: str = Field(min_length=1, max_length=60, description="Name of what arrives.")
    pool: PoolSpec | None = Field(None, description="Labelled images of it.")
    predicted: PredictedSpec | None = Field(
        None, description="What labels the images where nobody does."
    )
    embeddings: str | None = Field(None, description="Or Parquet with features of it.")
    classes: str | None = Field(None, description="Class names: all, or further ones.")
    tests: tuple[str, ...] = Field(
        (), description="Labelled test data of any modality: Parquet, or NAME=IMAGES."
    )
    backbone: BackboneSpec | None = Field(
        None, description="Of the class names at the first stage, and of images."
    )
    begin: BeginSpec = Field(BeginSpec(), description="Of the first stage.")
    training: StageTrainingSpec = Field(StageTrainingSpec(), description="Of this stage.")
    keep: KeepSpec = Field(KeepSpec(), description="What keeps earlier modalities.")
    seed: int = Field(0, ge=0, description="Of every draw.")
    register_as: str | None = Field(None, description="Name in the model registry.")
    max_forgetting: float = Field(0.1, ge=0, le=1, description="That a candidate may have.")
    runtime: RuntimeSpec = Field(RuntimeSpec(), description="Where and how wide it runs.")
    command: SkipJsonSchema[str] = Field("", description="The command line, for the report.")


class CompareSpec(Spec):
    """Which other methods are run on which data."""

    state: str = Field(description="Folder or URI of a state, for its order and class names.")
    data: str = Field(description="Parquet with features of all its modalities, train and test.")
    methods: tuple[str, ...] = Field(
        (
            "harmony",
            "sequential",
            "adapters",
            "lwf-adapters",
            "replay-20-adapters",
            "joint-adapters",
            "separate",
        ),
        min_length=1,
        description="Names of methods.",
    )
    seeds: int = Field(1, gt=0, description="How many, from 0.")
    orders: int = Field(
        1, gt=0, description="How many orders: as the modalities came, then with others first."
    )
    runtime: RuntimeSpec = Field(RuntimeSpec(), description="Where and how wide it runs.")


class PredictSpec(Spec):
    """A prediction: with what, of what."""

    state: str | None = Field(None, description="Folder or URI of a state.")
    model: str | None = Field(None, description="Or a registered one: models:/NAME@ALIAS.")
    pool: PoolSpec | None = Field(None, description="Images.")
    embeddings: str | None = Field(None, description="Or Parquet with features.")
    modality: str | None = Field(None, description="What all of them are.")
    runtime: RuntimeSpec = Field(RuntimeSpec(), description="Where and how wide it runs.")
