"""Settings of `coft describe`."""

from typing import Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from tasks.specs import BackboneSpec, CoftSpec, LabelSpec, PoolSpec, RuntimeSpec, Spec


class LanguageSpec(Spec):
    """A language model of the LLaMA architecture."""

    name: str = Field(description="gguf:PATH, local-dir:PATH or hf-hub:ORG/NAME.")
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="Of the GGUF file, or of the weights; another one is refused.",
    )


class VisionSpec(Spec):
    """What is built beside the language model (https://arxiv.org/abs/2405.10140)."""

    first: int | None = Field(
        None,
        ge=0,
        description="Layer at which vision enters; by default four fifths of the way; 0 as in the "
        "paper.",
    )
    rank: int = Field(
        64, ge=0, description="Of the expert's maps; 0 for a quarter of their outputs (the paper)."
    )
    start: Literal["svd", "normal"] = Field(
        "svd", description="Of the expert: near the language model's weights, or random (paper)."
    )
    bridge: bool = Field(default=True, description="Whether the two kinds of tokens have one.")
    side: int = Field(4, gt=0, le=32, description="Positions of an image in each direction.")


class CaptionTrainingSpec(Spec):
    """How captions are learned."""

    steps: int = Field(500, gt=0, description="Of the optimizer, at least; whole epochs.")
    batch_size: int = Field(32, gt=0, description="Images of a step.")
    learning_rate: float = Field(2e-3, gt=0, description="AdamW's, at its highest.")
    weight_decay: float = Field(0.01, ge=0, description="Of all that learns.")
    warm_up: int = Field(10, ge=0, description="Steps in which the learning rate rises.")
    max_norm: float = Field(1.0, gt=0, description="Longer gradients are cut to this length.")
    max_images: int = Field(
        20_000, gt=0, description="Most labels that are learned from; 12 kB of memory each."
    )


class DescribeSpec(Spec):
    """Everything that `coft describe` was asked to do."""

    pool: PoolSpec = Field(description="The images, their class names, labels for evaluation.")
    llm: LanguageSpec = Field(description="The language model; it stays as it is.")
    model: str | None = Field(
        None, description="Classifier whose labels are learned; by default CLIP's own, zero-shot."
    )
    backbone: BackboneSpec = Field(BackboneSpec(), description="CLIP, where there is no model.")
    label: LabelSpec = Field(LabelSpec(), description="Zero-shot labels, and how many are taken.")
    template: str = Field(
        "A photo of the {}.", description="The sentence that is learned: words, {}, and a mark."
    )
    prompts: tuple[str, ...] = Field(
        (), description="Further beginnings of a sentence that is finished about each image."
    )
    confused: bool = Field(
        default=False, description="Show the images about which classes are mixed up."
    )
    vision: VisionSpec = Field(VisionSpec(), description="What is built.")
    training: CaptionTrainingSpec = Field(CaptionTrainingSpec(), description="How it learns.")
    seed: int = Field(0, ge=0, description="Of every draw.")
    register_as: str | None = Field(None, description="Name in the model registry.")
    include_llm: bool = Field(
        default=False, description="Copy the language model into the registered model."
    )
    runtime: RuntimeSpec = Field(RuntimeSpec(), description="Where and how wide it runs.")
    command: SkipJsonSchema[str] = Field("", description="The command line, for the report.")

    @property
    def labelling(self) -> CoftSpec:
        """Return the settings of the steps that label images without people."""
        return CoftSpec(
            pool=self.pool,
            backbone=self.backbone,
            label=self.label,
            seed=self.seed,
            runtime=self.runtime,
        )
