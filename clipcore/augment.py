"""Random views of a batch, made on the device that trains."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from clipcore.backbone import VisualTower

MIN_AREA = 0.5
MEAN_SIDE = 0.862  # of a random crop: the mean of sqrt(area) for areas of 0.5 to 1
STRIDE = 16  # sizes are multiples of it, so that strided convolutions lose no border


def view_size(tower: VisualTower) -> int:
    """Return the pixels at which a tower trains on random crops.

    A crop that is enlarged to full size shows objects larger than at test time. Towers that accept
    any size therefore get crops at the scale of the whole image, which is also faster; the input
    size of towers with positional embeddings is fixed.

    Reference: FixRes, https://arxiv.org/abs/1906.06423, section 3.
    """
    size = tower.preprocess.size
    if any("pos" in name for name, _ in tower.network.named_parameters()):
        return size
    return min(size, max(STRIDE, STRIDE * round(MEAN_SIDE * size / STRIDE)))


def random_view(
    x: Float[Tensor, "batch channels height width"],
    *,
    generator: Generator,
    size: int,
    flip: bool = True,
) -> Float[Tensor, "batch channels size size"]:
    """Crop each image at random to a square of half to all of its area, and mirror half of them.

    All random numbers come from `generator`, so equal generators give equal views on every device.

    Args:
        x: Normalised images.
        generator: On the CPU.
        size: Side of the result in pixels; see `view_size`.
        flip: Whether to mirror; not for objects with a handedness, such as characters.
    """
    batch = len(x)
    area = torch.empty(batch).uniform_(MIN_AREA, 1.0, generator=generator)
    side = area.sqrt()
    shift = (2 * torch.rand(batch, 2, generator=generator) - 1) * (1 - side)[:, None]
    mirrored = torch.rand(batch, generator=generator) < (0.5 if flip else 0.0)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = side * torch.where(mirrored, -1.0, 1.0)
    theta[:, 1, 1] = side
    theta[:, :, 2] = shift
    theta = theta.to(x.device, non_blocking=True)
    grid = F.affine_grid(theta, [batch, x.shape[1], size, size], align_corners=False)
    return F.grid_sample(x, grid.to(x.dtype), padding_mode="reflection", align_corners=False)
