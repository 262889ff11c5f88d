"""From the bytes of an image file to pixels, or to a reason why not."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features


def _can_read_heif() -> bool:
    """Return whether pillow-heif is installed, and let Pillow know of it."""
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


# Only formats that people keep photos in: each decoder that is left out is one less to attack.
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"),
    *(name.upper() for name in ("webp", "avif") if features.check(name)),
    *(["HEIF"] if _can_read_heif() else []),
)
EXIF_ORIENTATION = 0x0112
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height

Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "squash"]
RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


class BadImage(ValueError):
    """Bytes that are no usable image, with a slug as the reason and a sentence as the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Preprocess:
    """Input of an image tower: crop size in pixels, channel means and deviations of values 0..1."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"

    def digest(self) -> str:
        """Return 16 hex digits that change with any field."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_header(data: bytes, *, max_pixels: int) -> tuple[int, int]:
    """Return the width and height in pixels as a viewer shows them, from the header alone.

    Args:
        data: An image file.
        max_pixels: Largest product of width and height.

    Raises:
        BadImage: not an image, a header that cannot be read, or more than `max_pixels` pixels.
    """
    image = _open(data, max_pixels)
    width, height = image.size
    if image.format == "PNG" and "exif" not in image.info:
        return width, height  # asking Pillow for EXIF would decode the whole image to look for it
    if image.format == "TIFF":
        return width, height  # already turned by Pillow
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  # a broken EXIF block does not make pixels unusable
        orientation = 1
    return (height, width) if orientation in QUARTER_TURNS else (width, height)


def decode(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode the first frame as RGB, turned upright.

    Args:
        data: An image file.
        max_pixels: Largest product of width and height.

    Raises:
        BadImage: as `check_header`, or pixels that end early or cannot be decoded.
    """
    image = _open(data, max_pixels)
    try:
        image.load()
        return _to_rgb(_upright(image))
    except Exception as error:
        raise _explain(error) from error


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


def resize_and_crop_all(images: Sequence[Image.Image], preprocess: Preprocess) -> np.ndarray:
    """Stack `resize_and_crop` of every image: uint8 of shape (images, size, size, 3)."""
    return np.stack([resize_and_crop(image, preprocess) for image in images])


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise BadImage("empty-file", "0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:
        raise _explain(error) from error
    width, height = image.size
    if width * height > max_pixels:
        detail = f"{width} x {height} pixels, at most {max_pixels} are decoded"
        raise BadImage("too-many-pixels", detail)
    return image


def _explain(error: Exception) -> BadImage:
    """Turn an error of a decoder into a reason; Pillow raises nearly anything on bad bytes."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return BadImage("too-many-pixels", str(error))
    if isinstance(error, UnidentifiedImageError):
        return BadImage("not-an-image", f"no format of {', '.join(FORMATS)} fits the first bytes")
    if "truncated" in str(error) or "premature end" in str(error).lower():
        return BadImage("truncated", str(error))
    return BadImage("decode-error", f"{type(error).__name__}: {error}")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  # broken EXIF: the pixels are fine, the rotation is unknown
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":  # 16 bit: keep the high byte
        values = np.asarray(image).astype(np.uint32) >> 8
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
