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

from clipcore.fit import LossTerms, Schedule, TrainingSet, fit
from clipcore.harmony.bridging import Aggregation
from clipcore.harmony.memory import ClassStatistics
from clipcore.harmony.samples import Prepared, Samples, output_statistics, prepared
from clipcore.harmony.state import Modality, State
from clipcore.harmony.stem import Stem
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
            seed: Of the run.
        """

    def end(self, state: State, h: Tensor, labels: Tensor) -> State:
        """Take note of the stage that has ended, and return its state.

        Args:
            state: With the new modality, the last one.
            h: What the stem made of its samples, those that were trained on.
            labels: Theirs.
        """


def learn_stage(  # noqa: PLR0913  # what is known, what comes, how
    state: State,
    name: str,
    samples: Samples,
    *,
    method: Method,
    seed: int,
    part_name: PartName = "adapter",
    freeze_trunk: bool = False,
    stem: Stem | None = None,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
) -> State:
    """Return what is known after a modality was learned; `state` stays as it is.

    Args:
        state: Of the stages before.
        name: Of the modality.
        samples: Features by one encoder and the class of each; read three times, in pieces.
        method: What keeps the earlier modalities.
        seed: Of the run.
        part_name: What the modality gets of its own in the trunk. Of prompts there is one pool,
            which goes on learning; the method hands it to the earlier modalities.
        freeze_trunk: Whether the trunk learns at the first stage alone.
        stem: Of the modality; by default its principal components. See `shared_stem`.
        steps: Optimizer steps.
        batch_size: Samples of a step.
        learning_rate: Of AdamW at the first step; it falls as a cosine.

    Raises:
        KnownModality: it was learned already.
        TrainingDiverged: the loss became infinite or not a number.
    """
    if name in state.modalities:
        raise KnownModality(f"{name} was learned already; give other data another name")
    schedule = Schedule(1, batch_size, seed, f"harmony/{name}")
    order = generator(seed, "harmony", name, "order")
    num_classes = len(state.classes)
    data = prepared(
        samples,
        lambda count: drawn(count, batch_size, steps, order),
        dim=state.dim,
        classes=num_classes,
        stem=stem,
    )
    trunk = copy.deepcopy(state.trunk)
    moves = not (freeze_trunk and state.modalities)
    trunk.requires_grad_(moves)
    part = _part_of_stage(part_name, state, trunk, generator(seed, "harmony", name, "part"))
    keeper = method.begin(state, data.statistics, seed)
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

    training = TrainingSet(data.labels, lambda order: (data.h[batch] for batch in order))
    minimise(loss_terms, learning, training, data.batches, schedule, learning_rate)
    frozen([one for one in (trunk, part, keeper.aggregation) if one is not None])
    learned = remembered(trunk, data, part, samples, keeper.aggregation)
    after = replace(state, trunk=trunk, modalities={**state.modalities, name: learned})
    return method.end(after, data.h, data.labels)


def remembered(
    trunk: Trunk,
    data: Prepared,
    part: Part | None,
    samples: Samples,
    aggregation: Aggregation | None = None,
) -> Modality:
    """Return what is kept of a modality that was learned; its samples are read once more."""
    outputs = output_statistics(
        samples,
        lambda inputs: trunk(data.stem(inputs), part),
        dim=trunk.projection.out_features,
        classes=len(data.statistics.count),
    )
    return Modality(data.stem, part, aggregation, data.statistics, outputs, data.likeness)


def _part_of_stage(name: PartName, state: State, trunk: Trunk, start: Generator) -> Part | None:
    if name == "prompts" and isinstance(state.last_part, PromptPool):
        return copy.deepcopy(state.last_part).requires_grad_(requires_grad=True)
    return new_part(name, trunk, state.dim, start)


def augmented(h: Float[Tensor, "batch dim"], draws: Generator) -> Float[Tensor, "batch dim"]:
    """Return inputs of the trunk with noise, and some of their numbers at zero."""
    kept = torch.rand(h.shape, generator=draws) >= DROPOUT
    noise = JITTER * torch.randn(h.shape, generator=draws)
    return (h + noise) * kept / (1 - DROPOUT)


def drawn(num_samples: int, batch_size: int, steps: int, draws: Generator) -> Sequence[Tensor]:
    """Return so many batches that go through all samples again and again, each time anew."""
    passes = -(-steps * batch_size // num_samples)
    order = torch.cat([torch.randperm(num_samples, generator=draws) for _ in range(passes)])
    return list(order[: steps * batch_size].split(batch_size))


def minimise(  # what, over what, how long
    loss_terms: LossTerms,
    learning: list[nn.Parameter],
    data: TrainingSet,
    batches: Sequence[Tensor],
    schedule: Schedule,
    learning_rate: float,
) -> None:
    """Minimise `loss` by AdamW over one epoch of given batches."""
    optimizer = torch.optim.AdamW(learning, lr=learning_rate, fused=True)
    for _ in fit(optimizer, loss_terms, data, schedule, epochs=range(1), batches=lambda _: batches):
        pass
