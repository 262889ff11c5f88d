"""Other ways of keeping what was learned, for comparison; each under the contract of `Method`.

Those that keep samples or more than statistics do so here and not in the state. `learn_jointly`
and a state for each modality are what is possible when no data has to go.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from clipcore.fit import Schedule, TrainingSet
from clipcore.harmony.memory import ClassStatistics
from clipcore.harmony.samples import Prepared, Samples, prepared
from clipcore.harmony.stage import (
    BATCH_SIZE,
    LEARNING_RATE,
    Keeper,
    Step,
    augmented,
    drawn,
    minimise,
    remembered,
)
from clipcore.harmony.state import State
from clipcore.harmony.trunk import Part, PartName, PromptPool, frozen, new_part
from clipcore.seeding import generator

FISHER_SAMPLES = 256


class Nothing:
    """Keeps nothing: sequential fine-tuning, or with a frozen trunk adapters alone."""

    aggregation = None

    def begin(self, state: State, today: ClassStatistics, seed: int) -> Keeper:  # noqa: ARG002
        """Return itself, which adds no loss."""
        return self

    def end(self, state: State, h: Tensor, labels: Tensor) -> State:  # noqa: ARG002
        """Return the state."""
        return state

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield nothing."""
        return iter(())

    def __call__(self, step: Step) -> Tensor:
        """Return no loss."""
        return step.feature.new_zeros(())


@dataclass
class Lwf(Nothing):
    """Learning without Forgetting (arXiv 1606.09282, Eq. 3).

    The trunk says of today's samples what it said before, through the branch of each modality.

    Attributes:
        weight: Of the mean divergence; chosen on a validation split of the digits.
    """

    weight: float = 3.0
    _state: State | None = None

    def begin(self, state: State, today: ClassStatistics, seed: int) -> Keeper:  # noqa: ARG002
        """Keep the trunk of before for a stage."""
        self._state = state
        return self

    def __call__(self, step: Step) -> Tensor:
        """Return the mean divergence over the earlier modalities."""
        total = step.feature.new_zeros(())
        assert self._state is not None  # noqa: S101  # after begin
        said = self._state.scores
        for past in self._state.modalities.values():
            now = said(step.trunk(step.h, past.part)).log_softmax(dim=1)
            with torch.no_grad():
                before = said(self._state.trunk(step.h, past.part)).log_softmax(dim=1)
            kept = F.kl_div(now, before, log_target=True, reduction="batchmean")
            total = total + kept / len(self._state.modalities)
        return self.weight * total


class L2p(Nothing):
    """Prompts that samples choose from one pool (arXiv 2112.08654, Eq. 5): `part_name` `prompts`.

    Attributes:
        weight: Of what draws the keys of chosen prompts to the samples.
    """

    weight = 0.5

    def __call__(self, step: Step) -> Tensor:
        """Return how unlike the chosen keys are."""
        assert isinstance(step.part, PromptPool)  # noqa: S101  # as the class says
        unlike: Tensor = step.part(step.h)[1]
        return self.weight * unlike

    def end(self, state: State, h: Tensor, labels: Tensor) -> State:  # noqa: ARG002
        """Hand the pool to all modalities."""
        pool = state.last_part
        shared = {name: replace(one, part=pool) for name, one in state.modalities.items()}
        return replace(state, modalities=shared)


@dataclass
class Ewc(Nothing):
    """Elastic weight consolidation (arXiv 1612.00796, Eq. 3), with the Fisher of each stage.

    Its labels are drawn from what the model says, its inputs are those that a step sees. With the
    true labels of samples that are known by heart the Fisher is nearly zero, and keeps nothing.

    Attributes:
        weight: Of the penalty; chosen like that of `Lwf`.
    """

    weight: float = 1000.0
    _anchored: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)

    def __call__(self, step: Step) -> Tensor:
        """Return how far weights that matter have moved."""
        total = step.feature.new_zeros(())
        for fisher, values in self._anchored:
            for one, value, parameter in zip(fisher, values, step.trunk.parameters(), strict=True):
                total = total + (one * (parameter - value).square()).sum()
        return self.weight / 2 * total

    def end(self, state: State, h: Tensor, labels: Tensor) -> State:  # noqa: ARG002
        """Note the weights and how much each matters."""
        trunk = copy.deepcopy(state.trunk).requires_grad_(requires_grad=True)
        part = state.last_part
        draws = generator(0, "harmony", "fisher", len(self._anchored))
        chosen = torch.randperm(len(h), generator=draws)[:FISHER_SAMPLES]
        fisher = [torch.zeros_like(one) for one in trunk.parameters()]
        for row in chosen.tolist():
            trunk.zero_grad()
            logits = state.scores(trunk(augmented(h[row : row + 1], draws), part))
            said = logits.detach().softmax(dim=1).multinomial(1, generator=draws)[:, 0]
            F.cross_entropy(logits, said).backward()
            for one, parameter in zip(fisher, trunk.parameters(), strict=True):
                if parameter.grad is not None:
                    one.add_(parameter.grad.square() / len(chosen))
        values = [one.detach().clone() for one in trunk.parameters()]
        self._anchored.append((fisher, values))
        return state


@dataclass
class Replay(Nothing):
    """Experience replay (arXiv 1902.10486): some samples of each class of each modality are kept.

    Attributes:
        per_class: How many.
    """

    per_class: int = 20
    _kept: list[tuple[Part | None, Tensor, Tensor]] = field(default_factory=list)
    _state: State | None = None
    _draws: Generator | None = None

    def begin(self, state: State, today: ClassStatistics, seed: int) -> Keeper:  # noqa: ARG002
        """Begin a stage."""
        self._state = state
        self._draws = generator(seed, "harmony", "replay", len(state.modalities))
        return self

    def __call__(self, step: Step) -> Tensor:
        """Return the mean cross-entropy of kept samples, a batch of each modality."""
        total = step.feature.new_zeros(())
        assert self._state is not None and self._draws is not None  # noqa: PT018, S101  # after begin
        for part, h, labels in self._kept:
            rows = torch.randint(len(h), (len(step.h),), generator=self._draws)
            feature = step.trunk(augmented(h[rows], self._draws), part)
            own = F.cross_entropy(self._state.scores(feature), labels[rows])
            total = total + own / len(self._kept)
        return total

    def end(self, state: State, h: Tensor, labels: Tensor) -> State:
        """Keep samples of the stage."""
        draws = generator(0, "harmony", "kept", len(self._kept))
        order = torch.randperm(len(h), generator=draws)
        rows = [order[labels[order] == k][: self.per_class] for k in range(len(state.classes))]
        chosen = torch.cat(rows)
        part = state.last_part
        self._kept.append((part, h[chosen], labels[chosen]))
        return state


def learn_jointly(  # noqa: PLR0913  # what is known, what there is, how
    state: State,
    data: Mapping[str, Samples],
    *,
    seed: int,
    part_name: PartName = "adapter",
    steps: int,
    batch_size: int = BATCH_SIZE // 2,
    learning_rate: float = LEARNING_RATE,
) -> State:
    """Return what is known after all modalities were learned at once, from all their data.

    Args:
        state: That has seen none.
        data: Features and classes of each modality.
        seed: Of the run.
        part_name: What each modality gets of its own in the trunk.
        steps: Optimizer steps.
        batch_size: Samples of each modality in a step.
        learning_rate: Of AdamW at the first step.
    """
    trunk = copy.deepcopy(state.trunk)

    def prepare(name: str, samples: Samples) -> Prepared:
        order = generator(seed, "joint", name)
        return prepared(
            samples,
            lambda count: drawn(count, batch_size, steps, order),
            dim=state.dim,
            classes=len(state.classes),
        )

    seen = {name: prepare(name, samples) for name, samples in data.items()}
    parts = {
        name: new_part(part_name, trunk, state.dim, generator(seed, "harmony", name, "part"))
        for name in data
    }

    def loss_terms(_: Tensor, at: Tensor, draws: Generator) -> dict[str, Tensor]:
        total = torch.zeros(())
        for name, one in seen.items():
            rows = one.batches[int(at)]
            feature = trunk(augmented(one.h[rows], draws), parts[name])
            own = F.cross_entropy(state.scores(feature), one.labels[rows])
            total = total + own / len(seen)
        return {"loss": total}

    learning = [p for one in (trunk, *parts.values()) if one for p in one.parameters()]
    numbers = torch.arange(steps)
    counted, in_turn = TrainingSet(numbers, iter), Schedule(1, 1, seed, "harmony/joint")
    minimise(loss_terms, learning, counted, numbers.split(1), in_turn, learning_rate)
    frozen([trunk, *(one for one in parts.values() if one)])
    modalities = {
        name: remembered(trunk, seen[name], parts[name], samples) for name, samples in data.items()
    }
    return replace(state, trunk=trunk, modalities=modalities)
