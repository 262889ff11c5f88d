"""Printed characters with the look of an 8 x 8 scan, made on the fly."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from clipcore.embedded.recipe.captions import CHARACTERS

# Their character maps list letters and digits, but they draw brackets, arrows and boxes.
SYMBOL_FONTS = {"LastResortHE-Regular", "cmex10", "cmsy10"}

CANVAS = 48  # pixels of a rendered character, before it is degraded
SCAN = 32  # pixels of the bitmap that a scanner sees; 4 x 4 of them count as one pixel of 8 x 8
LEVELS = 16  # grey levels above zero


def font_paths() -> list[Path]:
    """Return matplotlib's fonts that draw all of `CHARACTERS`, in the order of their names."""
    folder = Path(mpl.get_data_path(), "fonts", "ttf")
    wanted = set(map(ord, CHARACTERS))
    return [
        path
        for path in sorted(folder.glob("*.ttf"))
        if path.stem not in SYMBOL_FONTS and wanted <= set(FT2Font(str(path)).get_charmap())
    ]


def render_character(font: Path, character: str) -> Float[np.ndarray, "canvas canvas"]:
    """Draw a character, light (1) on dark (0), so that its ink fills the height of the canvas.

    A character that is wider than high fills the width instead.
    """
    face = ImageFont.truetype(str(font), 2 * CANVAS)
    page = Image.new("L", (6 * CANVAS, 6 * CANVAS))
    ImageDraw.Draw(page).text((2 * CANVAS, 2 * CANVAS), character, fill=255, font=face)
    ink = page.crop(page.getbbox())
    scale = CANVAS / max(ink.size)
    width, height = (max(1, round(side * scale)) for side in ink.size)
    canvas = Image.new("L", (CANVAS, CANVAS))
    place = ((CANVAS - width) // 2, (CANVAS - height) // 2)
    canvas.paste(ink.resize((width, height), Image.Resampling.LANCZOS), place)
    return np.asarray(canvas, dtype=np.float32) / 255


def render_characters() -> Float[Tensor, "fonts characters canvas canvas"]:
    """Draw every character in every font."""
    fonts = [
        [render_character(font, character) for character in CHARACTERS] for font in font_paths()
    ]
    return torch.from_numpy(np.array(fonts))


def degrade(
    glyphs: Float[Tensor, "batch canvas canvas"], rng: Generator
) -> Float[Tensor, "batch 8 8"]:
    """Degrade rendered characters to an 8 x 8 scan with whole grey levels, 0 to 16.

    Random affine, blur and a threshold (thin or thick strokes) give a bitmap of 32 x 32, and its
    ink is counted in blocks of 4 x 4, as for the UCI digits
    (https://archive.ics.uci.edu/dataset/80). Noise comes last.
    """
    levels = _count_ink(_threshold(_blur(_warp(glyphs, rng), rng), rng))
    noise = torch.randn(levels.shape, generator=rng) * _uniform(len(levels), rng, 0.0, 1.0)
    return (levels + noise).round().clamp(0, LEVELS)


def to_pixels(levels: Float[Tensor, "batch 8 8"]) -> Float[Tensor, "batch 3 16 16"]:
    """Resize 8 x 8 images to the model's input of 16 x 16 pixels, with values from -1 to 1.

    The result equals the model's preprocessing but for Pillow's rounding and clipping between its
    two passes.
    """
    values = (levels * 255 / LEVELS).round()
    # antialias picks the bicubic kernel of Pillow (a = -0.5), which the preprocessing uses.
    large = F.interpolate(values[:, None], scale_factor=2.0, mode="bicubic", antialias=True)
    return (large.round().clamp(0, 255) / 127.5 - 1).expand(-1, 3, -1, -1)


def _warp(
    glyphs: Float[Tensor, "batch canvas canvas"], rng: Generator
) -> Float[Tensor, "batch scan scan"]:
    """Turn, shear, stretch and shift each character at random."""
    count = len(glyphs)
    angle, shear = _uniform(count, rng, -0.25, 0.25), _uniform(count, rng, -0.3, 0.3)
    across, down = _uniform(count, rng, 0.85, 1.5), _uniform(count, rng, 0.95, 1.15)
    cos, sin = angle.cos(), angle.sin()
    shift = 0.08 * torch.randn((count, 2, 1), generator=rng)
    # Rows of the map from output to input coordinates, both -1 to 1.
    top = torch.cat([across * cos, across * (shear * cos - sin)], dim=2)
    bottom = torch.cat([down * sin, down * (shear * sin + cos)], dim=2)
    maps = torch.cat([torch.cat([top, bottom], dim=1), shift], dim=2)
    grid = F.affine_grid(maps, [count, 1, SCAN, SCAN], align_corners=False)
    return F.grid_sample(glyphs[:, None], grid, align_corners=False)[:, 0]


def _blur(
    images: Float[Tensor, "batch scan scan"], rng: Generator
) -> Float[Tensor, "batch scan scan"]:
    """Mix each image with its Gaussian blur (1.5 pixels) at a random share."""
    taps = torch.exp(-0.5 * (torch.arange(-3.0, 4.0) / 1.5) ** 2)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    soft = F.conv2d(images[:, None], kernel[None, None], padding=3)[:, 0]
    return torch.lerp(images, soft, _uniform(len(images), rng, 0.3, 1.0))


def _threshold(
    images: Float[Tensor, "batch scan scan"], rng: Generator
) -> Float[Tensor, "batch scan scan"]:
    """Make bitmaps; the threshold is a random share of each image's brightest pixel."""
    share = _uniform(len(images), rng, 0.2, 0.65)
    return (images > share * images.amax(dim=(1, 2), keepdim=True)).float()


def _count_ink(bitmaps: Float[Tensor, "batch scan scan"]) -> Float[Tensor, "batch 8 8"]:
    return F.avg_pool2d(bitmaps[:, None], SCAN // 8)[:, 0] * LEVELS


def _uniform(count: int, rng: Generator, low: float, high: float) -> Float[Tensor, "count 1 1"]:
    """Draw one number for each image of a batch."""
    return low + (high - low) * torch.rand((count, 1, 1), generator=rng)
