"""Images of a page as small JPEGs."""

import io
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageOps

from clipcore.image_files import BadImage
from clipcore.images import decode
from tasks.images.sources import read_images
from tasks.pages.html import data_uri

Resize = Callable[[Image.Image], Image.Image]

JPEG = "image/jpeg"
_QUALITY = 85  # of JPEG, up to 95
_RESAMPLING = Image.Resampling.LANCZOS
_PLACEHOLDER = (192, 144)  # width, height


def read_pictures(uris: Sequence[str], resize: Resize, *, max_pixels: int) -> dict[str, str]:
    """Return data URIs by image URI, of what `read_jpegs` returns."""
    pictures = read_jpegs(uris, resize, max_pixels=max_pixels)
    return {uri: data_uri(JPEG, data) for uri, data in pictures.items()}


def read_jpegs(uris: Sequence[str], resize: Resize, *, max_pixels: int) -> dict[str, bytes]:
    """Return JPEG files by image URI; images that cannot be read are left out.

    Args:
        uris: Where the images are; equal ones are read once.
        resize: How each is made small, such as `square` with its side.
        max_pixels: A larger image is not decoded.
    """
    distinct = list(dict.fromkeys(uris))
    pictures = {}
    for index, data in read_images(distinct):
        if isinstance(data, bytes):
            try:
                image = decode(data, max_pixels=max_pixels)
            except BadImage:
                continue
            pictures[distinct[index]] = jpeg(resize(image))
    return pictures


def square(side: int) -> Resize:
    """Return a cut to the middle square, as the model sees an image, of `side` pixels."""
    return lambda image: ImageOps.fit(image, (side, side), _RESAMPLING)


def within(side: int) -> Resize:
    """Return a reduction of the whole image to at most `side` pixels each way."""
    return lambda image: _reduced(image, side)


def _reduced(image: Image.Image, side: int) -> Image.Image:
    small = image.copy()
    small.thumbnail((side, side), _RESAMPLING)
    return small


def jpeg(image: Image.Image) -> bytes:
    """Return an RGB image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def placeholder() -> str:
    """Return `unreadable` as a data URI."""
    return data_uri(JPEG, unreadable())


def unreadable() -> bytes:
    """Return the picture, a JPEG file, that stands for an image which cannot be read."""
    image = Image.new("RGB", _PLACEHOLDER, "#e3e6ea")
    middle = (_PLACEHOLDER[0] // 2, _PLACEHOLDER[1] // 2)
    ImageDraw.Draw(image).text(middle, "cannot be read", "#586273", anchor="mm")
    return jpeg(image)
