"""From the bytes of an image file to pixels, or to a reason why not.

What is done with each mode of Pillow and each type of samples, in every format:

    1, L                  grey in all three channels
    P                     the colours of the palette; in a TIFF of 16 bits, or of 8 if none has more
    RGB, RGBX             as they are, without a fourth channel
    RGBA, LA, PA          over white, by their alpha. Where it is 0 everywhere in a BMP, or a TIFF
                          that does not say what it is, a program left it empty: without it.
    RGBa, La              likewise: their colours were multiplied by alpha, which is undone first
    P, 1, L, I;16, RGB    with a palette that has alpha, or a transparent colour: over white. Such a
                          colour of 3 x 16 bits is compared by its high bytes.
    CMYK, YCbCr, HSV      Pillow's conversion. JPEG of CMYK is read inverted, as Adobe writes it.
    LAB                   to sRGB, by LittleCMS
    I;16, I;16L, I;16B    unsigned 16 bits: the high byte. TIFF of 12 bits: the high 8 of these.
                          TIFF whose 0 is white: inverted.
    I                     Netpbm of more than 8 bits, which states its largest value: the high byte
                          of what Pillow makes of it, 0 to 65535.
    I, F and all others   signed, 32-bit and floating-point samples, any number of channels: nothing
                          says which values are black and white. `unsupported-sample-format`.

Colours of 3 or 4 x 16 bits come from Pillow as their high bytes. TIFF with a plane for each channel
is the same, but for LA, La, PA, LAB and YCbCr that is not compressed: `unsupported-sample-format`.
Colour profiles and gamma are ignored, as they were when CLIP was trained, and so are texts beside
the pixels, however large. Of an animation, of pages and of MPO the first picture counts, of an APNG
its default picture, of HEIF its primary one. EXIF or XMP turn it upright.

Limits are checked before anything is decoded. An image has at most `max_pixels` pixels, and its
long side is at most 100 times its short one (`MAX_ASPECT_RATIO`), so that the short one can be
brought to `size` pixels with 100 x size x size pixels at most. To decode and to resize an image
takes at most `BYTES_PER_PIXEL` bytes of memory for each of its pixels, four times its file, and 4
bytes for each of the resized pixels: 2.9 GB for the largest image that coft decodes by default. A
tile of TIFF counts where it is larger than its image. Threads of a process wait for each other, so
that what they decode at once takes `BYTES_AT_ONCE` together at most, or is one image.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np
from PIL import Image

from clipcore.image_files import (
    explain,
    held_pixels,
    open_image,
    read_tolerant,
    sixteen_bit_range,
    states_alpha,
)
from clipcore.room import Room

BYTES_PER_PIXEL = 20
BYTES_AT_ONCE = 3_000_000_000
RULES = 2  # raised by hand when the table changes: pixels of other rules are other pixels

TURNS = {  # EXIF orientation: what shows the stored rows upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = (5, 6, 7, 8)  # which swap width and height
_EXIF_ORIENTATION = 0x0112
_ROOM = Room(BYTES_AT_ONCE)

Made = TypeVar("Made")

Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "squash"]
RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


@dataclass(frozen=True)
class Preprocess:
    """Input of an image tower: crop size in pixels, channel means and deviations of values 0..1."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"

    def digest(self) -> str:
        """Return 16 hex digits that change with any field, and with the rules of this module."""
        text = json.dumps([asdict(self), RULES], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_header(data: bytes, *, max_pixels: int) -> tuple[int, int]:
    """Return the width and height in pixels as a viewer shows them, from the header alone.

    Args:
        data: An image file.
        max_pixels: Largest product of width and height.

    Raises:
        BadImage: not an image, a header that cannot be read, more than `max_pixels` pixels, a side
            over 100 times the other one, or unsupported samples.
    """
    image = read_tolerant(lambda file: open_image(file, max_pixels=max_pixels), data)
    width, height = image.size
    if image.format == "PNG" and "exif" not in image.info:
        return width, height  # asking Pillow for EXIF would decode the whole image to look for it
    if image.format == "TIFF":
        return width, height  # already turned by Pillow
    return (height, width) if _orientation(image) in QUARTER_TURNS else (width, height)


def decode(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode the first picture as RGB, turned upright.

    Args:
        data: An image file.
        max_pixels: Largest product of width and height.

    Raises:
        BadImage: as `check_header`, or pixels that end early or cannot be decoded.
    """
    return _read(data, max_pixels, lambda image: image)


def read_pixels(data: bytes, preprocess: Preprocess, *, max_pixels: int) -> np.ndarray:
    """Decode, resize and crop to uint8 of shape (size, size, 3).

    Raises:
        BadImage: as `decode`.
    """
    return _read(data, max_pixels, partial(resize_and_crop, preprocess=preprocess))


def resize_and_crop(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """Resize and centre-crop to uint8 of shape (size, size, 3), exactly as open_clip's transform.

    The last step of that transform, scaling and normalising, happens on the device; see
    `VisualTower.to_input`.
    """
    size = preprocess.size
    resampling = RESAMPLING[preprocess.interpolation]
    if preprocess.resize_mode == "squash":
        return np.asarray(image.resize((size, size), resampling))
    short = min(image.size)
    width, height = (size if side == short else int(size * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    box = (left, top, left + size, top + size)
    if (width, height) != image.size:
        image = image.resize((width, height), resampling)
    return np.asarray(image.crop(box))


def _read(data: bytes, max_pixels: int, make: Callable[[Image.Image], Made]) -> Made:
    """Return what `make` makes of the decoded image, while there is room for both."""

    def read(file: bytes) -> Made:
        image = open_image(file, max_pixels=max_pixels)
        with _ROOM.part(BYTES_PER_PIXEL * held_pixels(image) + 4 * len(file)):
            try:
                image.load()
                turn = TURNS.get(_orientation(image))
                image = _to_rgb(image)  # one name for all: no step holds what it does not need
                image = image if turn is None else image.transpose(turn)
            except Exception as error:
                raise explain(error, file) from error
            try:
                return make(image)
            except MemoryError as error:
                raise explain(error) from error

    return read_tolerant(read, data)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  # broken EXIF: the pixels are fine, the rotation is unknown
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Apply the table of this module."""
    if image.mode.startswith("I"):
        return _from_sixteen_bits(image)
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    shift, zero_is_white = sixteen_bit_range(image)
    samples = np.asarray(image)
    grey = (samples >> shift).astype(np.uint8)
    if zero_is_white:
        grey = 255 - grey
    if (colour := image.info.get("transparency")) is not None:
        grey[samples == colour] = 255
    return Image.fromarray(grey).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    elif not states_alpha(image) and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white
