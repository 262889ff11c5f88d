"""Random views of a batch, made on the device that trains."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from clipcore.backbone import VisualTower
from clipcore.images import Preprocess

MIN_AREA = 0.5
MEAN_SIDE = 0.862  # of a random crop: the mean of sqrt(area) for areas of 0.5 to 1
STRONG_MIN_AREA = 0.2
JITTER = 0.4  # of brightness, contrast and saturation: factors of 0.6 to 1.4
HUE = 0.1  # of a whole turn
RECOLOURED, GREY, BLURRED = 0.8, 0.2, 0.5  # shares of the images
BLUR = (0.1, 2.0)  # standard deviation in pixels
BLUR_RADIUS = 6  # three times the largest
CUT_OUT = 0.5  # side of the square, as a share of the image's
GREY_OF_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601
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
    min_area: float = MIN_AREA,
) -> Float[Tensor, "batch channels size size"]:
    """Crop each image at random to a square of half to all of its area, and mirror half of them.

    All random numbers come from `generator`, so equal generators give equal views on every device.

    Args:
        x: Normalised images.
        generator: On the CPU.
        size: Side of the result in pixels; see `view_size`.
        flip: Whether to mirror; not for objects with a handedness, such as characters.
        min_area: Share of the area that the smallest crop shows.
    """
    batch = len(x)
    area = torch.empty(batch).uniform_(min_area, 1.0, generator=generator)
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


def strong_view(
    x: Float[Tensor, "batch 3 height width"],
    preprocess: Preprocess,
    *,
    generator: Generator,
    size: int,
    flip: bool = True,
    colours: bool = True,
) -> Float[Tensor, "batch 3 size size"]:
    """Crop to a fifth to all of the area, mirror, change colours and blur, each at random.

    Args:
        x: Normalised images.
        preprocess: Whose mean and standard deviation they were normalised with.
        generator: On the CPU; all random numbers come from it.
        size: Side of the result in pixels; see `view_size`.
        flip: Whether to mirror.
        colours: Whether to change colours and blur; not where they tell classes apart.

    Reference: MoCo v2, https://arxiv.org/abs/2003.04297.
    """
    x = random_view(x, generator=generator, size=size, flip=flip, min_area=STRONG_MIN_AREA)
    if not colours:
        return x
    return blur(_with_other_colours(x, preprocess, generator), generator=generator)


def masked_view(  # noqa: PLR0913  # what a view may do
    x: Float[Tensor, "batch 3 height width"],
    preprocess: Preprocess,
    *,
    generator: Generator,
    size: int,
    flip: bool = True,
    colours: bool = True,
    hole: bool = True,
) -> Float[Tensor, "batch 3 size size"]:
    """Crop and mirror as `random_view`, change colours, and cut a square out.

    The arguments are those of `strong_view`; without a `hole` nothing is cut out.

    Reference: FixMatch, https://arxiv.org/abs/2001.07685, section 2.3.
    """
    x = random_view(x, generator=generator, size=size, flip=flip)
    if colours:
        x = _with_other_colours(x, preprocess, generator)
    return cut_out(x, generator=generator) if hole else x


def _with_other_colours(x: Tensor, preprocess: Preprocess, generator: Generator) -> Tensor:
    """Return normalised images with changed colours; see `recolour`."""
    mean, std = (
        x.new_tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std)
    )
    rgb = recolour((x * std + mean).clamp(0, 1), generator=generator)
    return (rgb - mean) / std


def cut_out(
    x: Float[Tensor, "batch channels height width"], *, generator: Generator
) -> Float[Tensor, "batch channels height width"]:
    """Set a square of each normalised image to zero; its centre is anywhere in the image.

    Reference: DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, section 3.2.
    """
    batch, _, *sides = x.shape
    inside = []
    for side in sides:
        centre = side * torch.rand(batch, 1, generator=generator)
        places = torch.arange(side) + 0.5
        inside.append((places - centre).abs() < CUT_OUT * side / 2)
    is_cut = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return x.masked_fill(is_cut.to(x.device, non_blocking=True), 0)


def recolour(
    rgb: Float[Tensor, "batch 3 height width"], *, generator: Generator
) -> Float[Tensor, "batch 3 height width"]:
    """Change brightness, contrast, saturation and hue of most images, and make some grey.

    Values are from 0 to 1. All changes are one affine map of the colours of an image.
    """
    batch = len(rgb)
    factors = 1 + JITTER * (2 * torch.rand(batch, 3, generator=generator) - 1)
    turns = HUE * (2 * torch.rand(batch, generator=generator) - 1)
    chance = torch.rand(batch, 2, generator=generator)
    is_jittered = chance[:, 0] < RECOLOURED
    brightness, contrast, saturation = torch.where(is_jittered[:, None], factors, 1.0).unbind(dim=1)
    turns = torch.where(is_jittered, turns, 0.0)
    saturation = torch.where(chance[:, 1] < GREY, 0.0, saturation)
    colours = _saturate(saturation) @ _turn(turns) * (brightness * contrast)[:, None, None]
    colours, contrast, brightness = (
        values.to(rgb.device, non_blocking=True) for values in (colours, contrast, brightness)
    )
    grey = torch.einsum("c,bchw->bhw", rgb.new_tensor(GREY_OF_RGB), rgb).mean(dim=(1, 2))
    shift = ((1 - contrast) * brightness * grey)[:, None, None, None]
    return (torch.einsum("bdc,bchw->bdhw", colours, rgb) + shift).clamp(0, 1)


def _saturate(factors: Tensor) -> Tensor:
    """Return the maps of RGB that mix each image with its grey version."""
    grey = torch.tensor(GREY_OF_RGB).expand(3, 3)
    return torch.lerp(grey, torch.eye(3), factors[:, None, None])


def _turn(turns: Tensor) -> Tensor:
    """Return the maps of RGB that turn colours around the grey axis; grey stays as it is."""
    angle = 2 * math.pi * turns[:, None, None]
    mean = torch.full((3, 3), 1 / 3)
    around = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return angle.cos() * (torch.eye(3) - mean) + angle.sin() * around + mean


def blur(
    rgb: Float[Tensor, "batch 3 height width"], *, generator: Generator
) -> Float[Tensor, "batch 3 height width"]:
    """Blur half of the images with a Gaussian of random width."""
    batch, channels, height, width = rgb.shape
    sigma = torch.empty(batch).uniform_(*BLUR, generator=generator)
    is_blurred = torch.rand(batch, generator=generator) < BLURRED
    radius = min(BLUR_RADIUS, height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.softmax(-(offsets**2) / (2 * sigma[:, None] ** 2), dim=1)
    weights = torch.where(is_blurred[:, None], weights, (offsets == 0).float())
    kernel = weights.to(rgb.device, non_blocking=True).repeat_interleave(channels, dim=0)
    x = F.pad(rgb.reshape(1, batch * channels, height, width), (radius,) * 4, mode="reflect")
    x = F.conv2d(x, kernel[:, None, None, :], groups=batch * channels)
    x = F.conv2d(x, kernel[:, None, :, None], groups=batch * channels)
    return x.reshape(rgb.shape)
