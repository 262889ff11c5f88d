"""Random views of a batch, made on the device that trains."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor


def random_view(
    x: Float[Tensor, "batch channels height width"],
    *,
    generator: Generator,
    min_scale: float = 0.5,
    flip: bool = True,
) -> Float[Tensor, "batch channels height width"]:
    """Crop each image at random to a square of `min_scale`..1 of its area, and mirror half of them.

    Do not mirror what has a handedness, such as characters. Draws come from `generator` alone, so
    equal generators give equal views on every device.
    """
    batch = len(x)
    area = torch.empty(batch).uniform_(min_scale, 1.0, generator=generator)
    side = area.sqrt()
    shift = (2 * torch.rand(batch, 2, generator=generator) - 1) * (1 - side)[:, None]
    mirrored = torch.rand(batch, generator=generator) < (0.5 if flip else 0.0)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = side * torch.where(mirrored, -1.0, 1.0)
    theta[:, 1, 1] = side
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta.to(x.device), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid.to(x.dtype), padding_mode="reflection", align_corners=False)
