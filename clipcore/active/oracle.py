"""Who answers a query in a simulation: the labels of the data set, counted as they are read."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


class Oracle:
    """The only way to the labels of a pool; it counts every label that it gives away."""

    def __init__(self, labels: Int[Tensor, " samples"]) -> None:
        self._labels = labels
        self.num_read = 0

    def answer(self, positions: Sequence[int]) -> Int[Tensor, " asked"]:
        """Return the labels of the samples that are asked about, and count them."""
        self.num_read += len(positions)
        return self._labels[torch.tensor(positions, dtype=torch.long)]

    def share_right(
        self, positions: Int[Tensor, " samples"], labels: Int[Tensor, " samples"]
    ) -> float | None:
        """Return, for the record alone, how many pseudo-labels are right: no label gets out."""
        if not len(positions):
            return None
        return float((self._labels[positions] == labels).double().mean())
