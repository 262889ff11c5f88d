"""What is kept of a modality once its data has gone: statistics of each class, no sample."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class ClassStatistics:
    r"""Count, mean and summed squared deviation of each class, in double precision.

    Any order of `of` and `merged` over the same samples gives the same up to rounding
    (Chan et al. 1979, Updating formulae for sample variances).
    """

    count: Int[Tensor, " classes"]
    mean: Float[Tensor, "classes dim"]
    deviation: Float[Tensor, "classes dim"]

    @classmethod
    def of(
        cls, features: Float[Tensor, "samples dim"], labels: Int[Tensor, " samples"], classes: int
    ) -> "ClassStatistics":
        """Return the statistics of samples."""
        rows = features.detach().double()
        count = torch.bincount(labels, minlength=classes)
        empty = rows.new_zeros(classes, rows.shape[1])
        mean = empty.index_add(0, labels, rows) / count.clamp(min=1)[:, None]
        deviation = empty.index_add(0, labels, (rows - mean[labels]) ** 2)
        return cls(count, mean, deviation)

    @classmethod
    def none(cls, classes: int, dim: int) -> "ClassStatistics":
        """Return the statistics of no sample."""
        nothing = torch.zeros(classes, dim, dtype=torch.float64)
        return cls(torch.zeros(classes, dtype=torch.long), nothing, nothing)

    def merged(self, other: "ClassStatistics") -> "ClassStatistics":
        """Return the statistics of both together."""
        count = self.count + other.count
        share = (other.count / count.clamp(min=1))[:, None]
        apart = other.mean - self.mean
        between = apart**2 * self.count[:, None] * share
        mean = self.mean + apart * share
        return ClassStatistics(count, mean, self.deviation + other.deviation + between)

    def grown(self, classes: int) -> "ClassStatistics":
        """Return the same with room for further classes, of which nothing is known."""
        pad = ClassStatistics.none(classes - len(self.count), self.mean.shape[1])
        both = zip(self.tensors().values(), pad.tensors().values(), strict=True)
        return ClassStatistics(*(torch.cat(pair) for pair in both))

    @cached_property
    def std(self) -> Float[Tensor, "classes dim"]:
        """Standard deviation of each class; that of all together where a class has one sample."""
        counted = self.count[:, None]
        degrees = (self.count - 1).clamp(min=0).sum().clamp(min=1)
        pooled = (self.deviation.sum(dim=0) / degrees).sqrt().expand_as(self.deviation)
        own = (self.deviation / (counted - 1).clamp(min=1)).sqrt()
        return torch.where(counted > 1, own, pooled)

    @property
    def present(self) -> Tensor:
        """Whether there was a sample, for each class."""
        return self.count > 0

    @property
    def num_bytes(self) -> int:
        """Bytes that it takes, however many samples there were."""
        return sum(part.nbytes for part in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Return its parts by name."""
        return {"count": self.count, "mean": self.mean, "deviation": self.deviation}
