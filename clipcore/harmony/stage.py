r"""A stage: what a new modality teaches, and what keeps the earlier ones.

$$L = \text{CE}(p(f), y) + L_{keep}$$

What keeps (`Method`) is the one thing in which Harmony and the methods beside it differ.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from clipcore.fit import Batches, LossTerms, Schedule, TrainingSet, fit
from clipcore.harmony.bridging import Aggregation
from clipcore.harmony.memory import ClassStatistics
from clipcore.harmony.routing import Likeness
from clipcore.harmony.state import Modality, State
from clipcore.harmony.stem import Stem, fit_stem
from clipcore.harmony.trunk import (
    Part,
    PartName,
    PromptPool,
    Trunk,
    frozen,
    new_part,
)
from clipcore.seeding import generator

STEPS, BATCH_SIZE, LEARNING_RATE = 300, 48, 1e-3
JITTER, DROPOUT = 0.3, 0.2  # of what the trunk sees while it learns


class KnownModality(ValueError):
    """A modality that was learned already."""


@dataclass(frozen=True)
class Step:
    """What a method sees of a step.

    Attributes:
        trunk: As it learns.
        part: Of the new modality.
        h: What the stem made of the batch.
        feature: Of the batch.
        labels: Of the batch.
    """

    trunk: Trunk
    part: Part | None
    h: Float[Tensor, "batch dim"]
    feature: Float[Tensor, "batch out"]
    labels: Int[Tensor, " batch"]


@runtime_checkable
class Keeper(Protocol):
    """What keeps the earlier modalities during one stage."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what learns beside trunk and part."""

    def __call__(self, step: Step) -> Tensor:
        """Return $L_{keep}$ of a step."""

    @property
    def aggregation(self) -> Aggregation | None:
        """How the new modality listens to the earlier ones, if it does."""


@runtime_checkable
class Method(Protocol):
    """A way of keeping what was learned."""

    def begin(self, state: State, today: ClassStatistics, seed: int) -> Keeper:
        """Return what keeps the modalities of a state while another one is learned.

        Args:
            state: Of before the stage; not changed.
            today: Statistics of what the new stem makes.
            seed: Of its random numbers, another one for each stage.
        """

    def end(self, state: State, h: Tensor, labels: Tensor) -> State:
        """Take note of the stage that has ended, and return its state.

        Args:
            state: With the new modality, the last one.
            h: What the stem made of its samples.
            labels: Theirs.
        """


def learn_stage(  # noqa: PLR0913  # what is known, what comes, how
    state: State,
    name: str,
    inputs: Float[Tensor, "samples width"],
    labels: Int[Tensor, " samples"],
    *,
    method: Method,
    seed: int,
    part_name: PartName = "adapter",
    freeze_trunk: bool = False,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
) -> State:
    """Return what is known after a modality was learned; `state` stays as it is.

    Args:
        state: Of the stages before.
        name: Of the modality.
        inputs: Features of its training samples, by one encoder.
        labels: Class of each.
        method: What keeps the earlier modalities.
        seed: Of the run.
        part_name: What the modality gets of its own in the trunk. Of prompts there is one pool,
            which goes on learning; the method hands it to the earlier modalities.
        freeze_trunk: Whether the trunk learns at the first stage alone.
        steps: Optimizer steps.
        batch_size: Samples of a step.
        learning_rate: Of AdamW at the first step; it falls as a cosine.

    Raises:
        KnownModality: it was learned already.
        TrainingDiverged: the loss became infinite or not a number.
    """
    if name in state.modalities:
        raise KnownModality(f"{name} was learned already; give other data another name")
    stem = fit_stem([inputs], dim=state.dim)
    h = stem(inputs)
    trunk = copy.deepcopy(state.trunk)
    moves = not (freeze_trunk and state.modalities)
    trunk.requires_grad_(moves)
    part = _part_of_stage(part_name, state, trunk, generator(seed, "harmony", name, "part"))
    today = ClassStatistics.of(h, labels, len(state.classes))
    keeper = method.begin(state, today, seed + len(state.modalities))
    learning = [
        *(trunk.parameters() if moves else ()),
        *(part.parameters() if part else ()),
        *keeper.parameters(),
    ]

    def loss_terms(batch: Tensor, y: Tensor, draws: Generator) -> dict[str, Tensor]:
        feature = trunk(augmented(batch, draws), part)
        own = F.cross_entropy(state.scores(feature), y)
        kept = keeper(Step(trunk, part, batch, feature, y))
        return {"loss": own + kept, "own": own, "kept": kept}

    data = TrainingSet(labels, lambda order: (h[batch] for batch in order))
    batches = drawn(len(labels), batch_size, steps)
    schedule = Schedule(1, batch_size, seed, f"harmony/{name}")
    minimise(loss_terms, learning, data, batches, schedule, learning_rate)
    frozen([one for one in (trunk, part, keeper.aggregation) if one is not None])
    kept = remembered(trunk, stem, part, inputs, labels, len(state.classes), keeper.aggregation)
    after = replace(state, trunk=trunk, modalities={**state.modalities, name: kept})
    return method.end(after, h, labels)


@torch.no_grad()
def remembered(  # noqa: PLR0913, PLR0917  # what learned, and from what
    trunk: Trunk,
    stem: Stem,
    part: Part | None,
    inputs: Float[Tensor, "samples width"],
    labels: Int[Tensor, " samples"],
    classes: int,
    aggregation: Aggregation | None = None,
) -> Modality:
    """Return what is kept of a modality that was learned."""
    h = stem(inputs)
    own, made = (ClassStatistics.of(one, labels, classes) for one in (h, trunk(h, part)))
    return Modality(stem, part, aggregation, own, made, Likeness.of(inputs))


def _part_of_stage(name: PartName, state: State, trunk: Trunk, start: Generator) -> Part | None:
    if name == "prompts" and isinstance(state.last_part, PromptPool):
        return copy.deepcopy(state.last_part).requires_grad_(requires_grad=True)
    return new_part(name, trunk, state.dim, start)


def augmented(h: Float[Tensor, "batch dim"], draws: Generator) -> Float[Tensor, "batch dim"]:
    """Return inputs of the trunk with noise, and some of their numbers at zero."""
    kept = torch.rand(h.shape, generator=draws) >= DROPOUT
    noise = JITTER * torch.randn(h.shape, generator=draws)
    return (h + noise) * kept / (1 - DROPOUT)


def drawn(num_samples: int, batch_size: int, steps: int) -> Batches:
    """Return so many batches that go through all samples again and again, each time anew."""

    def epoch(draws: Generator) -> Sequence[Tensor]:
        passes = -(-steps * batch_size // num_samples)
        order = torch.cat([torch.randperm(num_samples, generator=draws) for _ in range(passes)])
        return list(order[: steps * batch_size].split(batch_size))

    return epoch


def minimise(  # what, over what, how long
    loss_terms: LossTerms,
    learning: list[nn.Parameter],
    data: TrainingSet,
    batches: Batches,
    schedule: Schedule,
    learning_rate: float,
) -> None:
    """Minimise `loss` by AdamW over one epoch of given batches."""
    optimizer = torch.optim.AdamW(learning, lr=learning_rate)
    for _ in fit(optimizer, loss_terms, data, schedule, epochs=range(1), batches=batches):
        pass
