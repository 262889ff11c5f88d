"""Image files out of a seed, and a labelled set of three colours with much noise."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
PER_CLASS = 20


def encoded_image(seed: int, size: tuple[int, int] = (24, 20), *, form: str = "PNG") -> bytes:
    """Return a file of random pixels that no other seed gives; `size` is (width, height)."""
    draws = np.random.default_rng(seed)
    return encode(draws.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8), form)


def write_images(folder: Path) -> Path:
    """Write twenty images of each colour, every fourth in the test split, and return the file."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "image": _drawn(colour, rng),
            "label": name,
            "split": "test" if number % 4 == 0 else "pool",
        }
        for number in range(PER_CLASS)
        for name, colour in COLOURS.items()
    ]
    path = folder / "images.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def encode(pixels: np.ndarray, form: str) -> bytes:
    """Return pixels of shape (height, width, 3) as an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def _drawn(colour: tuple[int, int, int], rng: np.random.Generator) -> bytes:
    return encode(rng.normal(colour, 40, (40, 40, 3)).clip(0, 255).astype(np.uint8), "JPEG")
