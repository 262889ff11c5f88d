"""Which modality a sample is of, where nobody says it: the one whose inputs look most alike."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.harmony.memory import ClassStatistics

_LEAST = 1e-6  # of the mean variance: a number that never changes says nothing


@dataclass(frozen=True)
class Likeness:
    """A Gaussian over the inputs of a modality, each number by itself."""

    mean: Float[Tensor, " width"]
    variance: Float[Tensor, " width"]

    @classmethod
    def of(cls, inputs: ClassStatistics) -> "Likeness":
        """Return the Gaussian of inputs, whose statistics are those of one class."""
        return cls(inputs.mean[0], inputs.deviation[0] / inputs.count[0])

    def log_likelihood(self, inputs: Float[Tensor, "samples width"]) -> Float[Tensor, " samples"]:
        r"""Return $\log p(x)$ of each sample, over the number of numbers in it."""
        variance = self.variance + _LEAST * self.variance.mean().clamp(min=1e-12)
        apart = (inputs.double() - self.mean) ** 2 / variance
        return -0.5 * (apart + (2 * torch.pi * variance).log()).mean(dim=1)


def route(
    inputs: Float[Tensor, "samples width"], modalities: Mapping[str, Likeness]
) -> tuple[list[str], Float[Tensor, " samples"]]:
    """Return the modality of each sample, and the probability of it.

    Only modalities of the samples' width come into question. Of equal ones the earlier is taken;
    before anything is seen each is as likely.

    Raises:
        ValueError: no modality has inputs of this width.
    """
    names = [name for name, one in modalities.items() if len(one.mean) == inputs.shape[1]]
    if not names:
        widths = ", ".join(f"{name} {len(one.mean)}" for name, one in modalities.items())
        raise ValueError(f"expected features of a known width ({widths}), got {inputs.shape[1]}")
    width = inputs.shape[1]
    each = torch.stack([modalities[name].log_likelihood(inputs) for name in names], dim=1)
    places = torch.arange(len(names)).expand_as(each)
    best = places.where(each == each.amax(dim=1, keepdim=True), torch.tensor(len(names))).amin(
        dim=1
    )
    sure = (width * each).softmax(dim=1).gather(1, best[:, None])[:, 0]
    return [names[index] for index in best.tolist()], sure.float()
