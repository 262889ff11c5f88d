"""Images as files, and ways to their pixels through caches of their own."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import Tensor, from_numpy

from clipcore.images import Preprocess, read_pixels
from tasks.images.cache_folder import CacheFolder
from tasks.images.pixel_cache import PixelCache
from tasks.images.pixels import Pixels
from tasks.storage.digests import content_id
from tests.worlds.images import encoded_image

PREPROCESS = Preprocess(size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BYTES = 8 * 8 * 3 + 4  # of an image in the cache, with its checksum
ROOM = 2**20


def write_files(folder: Path, count: int) -> pa.Table:
    """Write the images that are not there and return all as a part of a pool."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            path.write_bytes(encoded_image(number, (10, 12)))
    return pa.table(
        {
            "image_id": [content_id(path.read_bytes()) for path in paths],
            "uri": [str(path) for path in paths],
            "bytes": [path.stat().st_size for path in paths],
        }
    )


def cached(folder: Path, *, max_bytes: int = ROOM) -> Pixels:
    """Return a new door, as of a new process, to the cache in a folder."""
    cache = PixelCache(CacheFolder(folder, max_bytes=max_bytes), PREPROCESS)
    return Pixels(PREPROCESS, cache, max_pixels=10_000)


def not_cached() -> Pixels:
    return Pixels(PREPROCESS, PixelCache(None, PREPROCESS), max_pixels=10_000)


def pixels_in(images: pa.Table) -> Tensor:
    """Return what decoding gives for each row."""
    files = [Path(uri).read_bytes() for uri in images["uri"].to_pylist()]
    return from_numpy(np.stack([read_pixels(f, PREPROCESS, max_pixels=10_000) for f in files]))


def some_pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
