r"""How Harmony keeps earlier modalities: their historical features go through the trunk as well.

$$L_{keep} = \frac1{t-1} \sum_{j<t} L_{ret}(h^{(j)}) + \lambda_1 L_{inst} + \lambda_2 L_{dist}
    \;(+\; \text{CE}(p(\text{aggregated}), y))$$

On by default is what measured better with than without: $L_{ret}$ on class-wise statistics.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipcore.harmony import bridging
from clipcore.harmony.bridging import Aggregation
from clipcore.harmony.memory import ClassStatistics
from clipcore.harmony.modulation import (
    RHO,
    LearnedModulation,
    ModulationName,
    compatibility,
    modulate,
)
from clipcore.harmony.stage import Step
from clipcore.harmony.state import Modality, State
from clipcore.seeding import generator


@dataclass(frozen=True)
class Harmony:
    """The method; `as_written` is the variant without our changes.

    Attributes:
        modulation: Where historical features come from.
        rho: How much of today's sample is in them, if they come from class statistics.
        retention: Weight of $L_{ret}$.
        instance: Weight of $L_{inst}$.
        distribution: Weight of $L_{dist}$.
        aggregate: Whether a new modality listens to the branches of earlier ones.
    """

    modulation: ModulationName = "class-wise"
    rho: float = RHO
    retention: float = 1.0
    instance: float = 0.0
    distribution: float = 0.0
    aggregate: bool = False

    @classmethod
    def as_written(cls) -> "Harmony":
        """Return the variant with a learned modulation and every part on."""
        return cls("learned", instance=0.1, distribution=0.1, aggregate=True)

    def begin(self, state: State, today: ClassStatistics, seed: int) -> "History":
        """Return what keeps the modalities of a state."""
        return History(self, state, today, seed)

    def end(self, state: State, h: Tensor, labels: Tensor) -> State:  # noqa: ARG002  # a Method's
        """Return the state: what is kept of the modality is in it already."""
        return state


class History:
    """The keeper of one stage."""

    def __init__(self, method: Harmony, state: State, today: ClassStatistics, seed: int) -> None:
        self._method, self._state, self._today = method, state, today
        count, out = len(state.modalities), state.anchors.shape[1]
        self._noise = generator(seed, "harmony", "history", count)
        start = generator(seed, "harmony", "keeper", count)
        learned = method.modulation == "learned"
        self._modulations = {
            name: LearnedModulation(state.dim, start) for name in state.modalities if learned
        }
        wanted = method.aggregate and count
        self._aggregation = Aggregation(out, count + 1, start) if wanted else None

    @property
    def aggregation(self) -> Aggregation | None:
        """How the new modality listens to the earlier ones."""
        return self._aggregation

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what learns beside trunk and part."""
        for modulation in self._modulations.values():
            yield from modulation.parameters()
        if self._aggregation is not None:
            yield from self._aggregation.parameters()

    def __call__(self, step: Step) -> Tensor:
        """Return what keeps the earlier modalities, for a batch."""
        total = step.feature.new_zeros(())
        modalities = self._state.modalities
        if self._method.retention or self._method.instance or self._method.distribution:
            for name, past in modalities.items():
                total = total + self._of_modality(name, past, step) / len(modalities)
        if self._aggregation is not None:
            total = total + self._aggregated(step, self._aggregation)
        return total

    def _of_modality(self, name: str, past: Modality, step: Step) -> Tensor:
        seen = past.inputs.present[step.labels]
        if not seen.any():
            return step.feature.new_zeros(())
        h, labels, feature = step.h[seen], step.labels[seen], step.feature[seen]
        historical, total = self._historical(name, past, h, labels)
        now = step.trunk(historical, past.part)
        with torch.no_grad():
            before = self._state.trunk(historical, past.part)
        logits, held = (self._state.scores(one) for one in (now, before))
        parts = bridging.retention(now, before, logits, held, labels)
        total = total + self._method.retention * torch.stack(list(parts.values())).sum()
        if self._method.modulation == "learned":
            total = total + compatibility(now, labels, past.outputs)
        if self._method.instance:
            prototypes = past.outputs.mean.float()
            aligned = bridging.instance_alignment(feature, labels, prototypes)
            total = total + self._method.instance * aligned
        if self._method.distribution:
            aligned = bridging.distribution_alignment(feature, now)
            total = total + self._method.distribution * aligned
        return total

    def _historical(
        self, name: str, past: Modality, h: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return historical features of a batch, and the penalty of making them."""
        if name not in self._modulations:
            rho, noise = self._method.rho, self._noise
            made = modulate(h, labels, self._today, past.inputs, rho=rho, generator=noise)
            return made, h.new_zeros(())
        made, gamma, beta = self._modulations[name](h)
        return made, 0.01 * (gamma.square().mean() + beta.square().mean())

    def _aggregated(self, step: Step, aggregation: Aggregation) -> Tensor:
        branches = [step.trunk(step.h, one.part) for one in self._state.modalities.values()]
        feature = aggregation(step.feature, [*branches, step.feature])
        return F.cross_entropy(self._state.scores(feature), step.labels)
