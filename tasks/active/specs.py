"""Settings of active rounds: who learns, what is asked, how many questions there may be."""

from typing import Literal

from pydantic import Field, field_validator

from tasks.answering.specs import PageSpec
from tasks.specs import (
    EPOCHS,
    MIN_STEPS,
    AdapterSpec,
    CoftSpec,
    DualSpec,
    PromptSpec,
    RuntimeSpec,
    SgdSpec,
    Spec,
    TopSpec,
)


class LearnerSpec(Spec):
    """What a round of questions trains, from nothing each time (active paper, 3.2 and 4.1).

    `dual` is the paper's own: dual prompts and an image side that learn from answers and from
    pseudo-labels. The others are the plain learners of its tables, which learn from answers alone;
    beside them negative prompts are trained that they do not notice, so that every strategy works.
    """

    kind: Literal["dual", "coop", "vpt", "maple"] = Field("dual", description="Who learns.")
    images: Literal["cached", "tower"] = Field(
        "cached",
        description="What dual learns from: cached features (seconds a round), or pixels.",
    )
    epochs: int = Field(EPOCHS, gt=0, description="Passes over the longer of both kinds of labels.")
    min_steps: int = Field(MIN_STEPS, ge=0, description="Raise the epochs until this many steps.")
    labeled_batch: int = Field(16, gt=0, description="Answers in a step.")
    pseudo_batch: int = Field(64, gt=0, description="Pseudo-labels in a step.")
    prompts: PromptSpec = PromptSpec()
    adapter: AdapterSpec = Field(AdapterSpec(), description="For vpt, and dual with images=tower.")
    coupled_tokens: int = Field(2, gt=0, description="Tokens of a block, for maple.")
    coupled_depth: int = Field(9, gt=0, description="Blocks with tokens, for maple.")
    sgd: SgdSpec = SgdSpec()
    dual: DualSpec = DualSpec()
    top: TopSpec = Field(TopSpec(), description="Pseudo-labels that a round trains on.")
    pseudo_labels: bool | None = Field(
        default=None, description="Train on pseudo-labels too; by default dual does."
    )

    spread_answers: bool = Field(
        default=False,
        description="Spread answers to images that look alike; pseudo-labels are what comes of it.",
    )

    @property
    def on_pseudo_labels(self) -> bool:
        """Return whether a round with answers trains on pseudo-labels too."""
        return self.kind == "dual" if self.pseudo_labels is None else self.pseudo_labels

    @property
    def on_features(self) -> bool:
        """Return whether the tower stays as it is: an image is encoded once for all rounds."""
        return self.kind == "coop" or (self.kind == "dual" and self.images == "cached")


class QuerySpec(Spec):
    """Which images a round asks about."""

    strategy: str = Field("paper", description="paper, random, entropy, badge, pcb, ...")
    per_round: int = Field(100, gt=0, description="Images of one query.")
    max_similarity: float = Field(
        0.97, gt=0, description="Cosine above which two images count as one; 1 turns it off."
    )


class ActiveSpec(Spec):
    """Rounds of questions about the images of a run."""

    run: CoftSpec = Field(description="Pool, backbone, seed, and how the start is made.")
    learner: LearnerSpec = LearnerSpec()
    query: QuerySpec = QuerySpec()
    start: str = Field(
        "phase1",
        description="Features of CoFT's first peer, CLIP as it is (zero-shot), or a coft model.",
    )


class BudgetSpec(Spec):
    """How many questions a person can afford, and when they are worth no more."""

    budget: int = Field(gt=0, description="Images that may be asked about in all.")
    smallest_gain: float = Field(
        0.01, ge=0, description="Share of the predictions that a further round must still change."
    )
    max_candidates: int = Field(
        50_000, gt=0, description="Images that a strategy looks at; of more it sees a sample."
    )


class RoundsSpec(BudgetSpec):
    """Rounds that a person answers; kept under a name in the workspace."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    active: ActiveSpec


class RoundsPageSpec(PageSpec):
    """The page of rounds, which trains the next one while a person goes on."""

    train_at: float = Field(
        0.9, gt=0, le=1, description="Share of a query whose answers begin the next round."
    )


class TrialsSpec(Spec):
    """Which trials a data set answers: every strategy with every seed."""

    strategies: tuple[str, ...] = Field(
        ("paper", "random", "entropy", "badge", "pcb"), description="Split by commas."
    )
    seeds: int = Field(3, gt=0, description="Trials of each strategy.")
    rounds: int = Field(5, gt=0, description="Queries of a trial.")
    per_round: int | None = Field(
        None, gt=0, description="Images of a query; by default a hundredth of the pool."
    )
    with_coft: bool = Field(
        default=False, description="Run CoFT without labels too, and draw its accuracy."
    )

    @field_validator("strategies")
    @classmethod
    def _split(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Take `paper,random` for two."""
        return tuple(name.strip() for names in value for name in names.split(","))


class SimulationSpec(TrialsSpec):
    """Rounds that a data set answers, for several strategies and seeds."""

    active: ActiveSpec

    @property
    def runtime(self) -> RuntimeSpec:
        """Return where it runs."""
        return self.active.run.runtime
