"""Pixels, features and training sets out of a seed."""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore.fit import TrainingSet


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_pixels(count: int, size: int, seed: int = 0) -> Tensor:
    """Return uint8 noise of shape (count, size, size, 3)."""
    shape = (count, size, size, 3)
    return torch.randint(256, shape, dtype=torch.uint8, generator=draws(seed))


def random_features(count: int, dim: int, seed: int = 0) -> Tensor:
    """Return normalised vectors of shape (count, dim)."""
    return F.normalize(torch.randn(count, dim, generator=draws(seed)))


def training_set(pixels: Tensor, labels: Tensor) -> TrainingSet:
    """Return images that are all in memory as a training set."""

    def load(batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return (pixels[batch] for batch in batches)

    return TrainingSet(labels, load)


def snapshot(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of a state that later training does not reach."""
    return {name: value.detach().clone() for name, value in state.items()}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    """Return whether two states have the same names and, bit for bit, the same values."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
