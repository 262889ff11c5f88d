"""What brings the features of any encoder to one width: PCA of the modality's own inputs."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipcore.seeding import generator

WIDTH = 128
WHITENING = 0.5  # 0 keeps the spread of each component, 1 makes them all equal
_LEAST = 1e-6  # of the largest variance


class WrongWidth(ValueError):
    """Features of another width than those that a modality was learned from."""


@dataclass(frozen=True)
class Stem:
    r"""A modality's frozen projection: $E(x) = \text{LayerNorm}((x - \mu) W)$, without weights.

    Attributes:
        mean: $\mu$ of the inputs.
        components: $W$, principal directions over the spread along each; columns of zeros where the
            inputs have fewer.
    """

    mean: Float[Tensor, " width"]
    components: Float[Tensor, "width dim"]

    @property
    def width(self) -> int:
        """Numbers of an input."""
        return len(self.mean)

    def __call__(self, inputs: Float[Tensor, "samples width"]) -> Float[Tensor, "samples dim"]:
        """Return what the trunk sees.

        Raises:
            WrongWidth: the inputs have another width.
        """
        if inputs.shape[1] != self.width:
            msg = f"expected features of {self.width} numbers, got {inputs.shape[1]}"
            raise WrongWidth(f"{msg}; one modality has one encoder")
        projected = (inputs.float() - self.mean) @ self.components
        return F.layer_norm(projected, projected.shape[1:])


def fit_stem(
    batches: Iterable[Tensor],
    *,
    dim: int = WIDTH,
    whitening: float = WHITENING,
) -> Stem:
    """Return the stem of a modality from its inputs, read once; labels have no part in it.

    Args:
        batches: Inputs of shape (samples, width), some at a time; there is at least one.
        dim: Numbers that the trunk sees.
        whitening: The power of the standard deviation that a component is divided by.
    """
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        rows = batch.double()
        count += len(rows)
        total = total + rows.sum(dim=0)
        products = products + rows.T @ rows
    mean = total / count
    variances, directions = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
    largest = variances[:1].clamp(min=torch.finfo(torch.float64).tiny)
    kept = variances > _LEAST * largest
    scale = torch.where(kept, variances.clamp(min=_LEAST * largest) ** (-whitening / 2), 0)
    components = F.pad(_signed(directions) * scale, (0, dim - len(variances)))
    return Stem(mean.float(), components.float())


def shared_stem(width: int, *, dim: int = WIDTH) -> Stem:
    """Return the stem of features that mean the same in all modalities, as those of one tower do.

    Components of each modality's own would turn what the encoder has brought together. Where there
    is room the features stay as they are; else they are projected on directions that are drawn
    once, orthogonal and the same for every modality (Johnson and Lindenstrauss 1984).

    Args:
        width: Numbers of an input.
        dim: Numbers that the trunk sees.
    """
    if width <= dim:
        return Stem(torch.zeros(width), torch.eye(width, dim))
    draws = generator(0, "harmony", "shared stem", width, dim)
    directions, _ = torch.linalg.qr(torch.randn(width, dim, dtype=torch.float64, generator=draws))
    return Stem(torch.zeros(width), _signed(directions).float())


def _signed(directions: Tensor) -> Tensor:
    """Make the largest number of each direction positive: its sign is that of the machine else."""
    largest = directions.abs().argmax(dim=0, keepdim=True)
    return directions * torch.where(directions.gather(0, largest) < 0, -1.0, 1.0)
