"""Images of a query as small JPEGs inside of a text, a batch at a time."""

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from PIL import Image, ImageDraw

from clipcore.images import BadImage, decode
from tasks.images.sources import read_images

BATCH = 256  # images; what is held of them is small, and a Parquet file is opened once for each
_QUALITY = 85
_PLACEHOLDER = (192, 144)


def batches(query: pa.Table) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a query by their position, a batch at a time."""
    ranked = query.sort_by("position")
    for batch in ranked.to_batches(max_chunksize=BATCH):
        yield batch.to_pylist()


def read_pictures(uris: Sequence[str], *, side: int, max_pixels: int) -> dict[str, str]:
    """Return JPEG data URIs of at most `side` pixels; images that cannot be read are left out."""
    wanted = list(dict.fromkeys(uris))
    found = {}
    for index, data in read_images(wanted):
        if isinstance(data, bytes):
            try:
                found[wanted[index]] = _encode(decode(data, max_pixels=max_pixels), side)
            except BadImage:
                continue
    return found


def placeholder() -> str:
    """Return the picture that stands for an image which cannot be read."""
    image = Image.new("RGB", _PLACEHOLDER, "#e3e6ea")
    middle = (_PLACEHOLDER[0] // 2, _PLACEHOLDER[1] // 2)
    ImageDraw.Draw(image).text(middle, "cannot be read", "#586273", anchor="mm")
    return _encode(image, max(_PLACEHOLDER))


def _encode(image: Image.Image, side: int) -> str:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
