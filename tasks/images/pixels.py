"""Pixels of images: from the run's cache, else read, decoded and kept there, in threads.

Passes go through a part of a pool once, in any order of its rows; `training_pixels` goes through a
training set in the order of its batches. Both fill batches ahead of the device, in bounded memory,
and an image's pixels go straight from the cache into its batch.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clipcore.image_files import BadImage
from clipcore.images import Preprocess, read_pixels
from tasks.images.pixel_cache import PixelCache, cache_of_run
from tasks.images.quarantine import Quarantined
from tasks.images.sources import ahead, read_images
from tasks.specs import PoolSpec
from tasks.storage.digests import content_id

# Ray gives each worker the number of its cores in this variable.
THREADS = max(2, int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
BATCHES_AHEAD = 2
ENCODED_AHEAD = 16 * THREADS  # files that wait in memory to be decoded

Problem = BadImage | OSError


@dataclass(frozen=True)
class Pixels:
    """How images become pixels.

    Attributes:
        preprocess: Input of the tower.
        cache: Where pixels are kept.
        max_pixels: Larger images are not decoded.
        max_bytes: Larger files are not read.
        pinned: Whether batches are in memory that a GPU copies from while it computes. Such memory
            is used again for later batches once the copy is done, which PyTorch sees to.
    """

    preprocess: Preprocess
    cache: PixelCache
    max_pixels: int
    max_bytes: int | None = None
    pinned: bool = False

    def new_batch(self, images: int) -> Tensor:
        """Return memory for so many images."""
        size = self.preprocess.size
        return torch.empty((images, size, size, 3), dtype=torch.uint8, pin_memory=self.pinned)

    def fill(
        self, out: np.ndarray, image_id: str, uri: str, data: bytes | OSError | None = None
    ) -> Problem | None:
        """Put the pixels of an image into `out`, or return why there are none.

        Args:
            out: uint8 of shape (size, size, 3).
            image_id: The digest of its content, and its name in the cache.
            uri: Where it is.
            data: What is there, if it was read already.
        """
        if self.cache.read(image_id, out):
            return None
        with self.cache.claim(image_id):
            if self.cache.read(image_id, out):  # another process was quicker
                return None
            if data is None:
                ((_, data),) = read_images([uri], max_bytes=self.max_bytes)
            if isinstance(data, OSError):
                return data
            try:
                out[:] = read_pixels(data, self.preprocess, max_pixels=self.max_pixels)
            except BadImage as error:
                return BadImage(error.reason, error.detail)  # its frames would hold the image
            if content_id(data) != image_id:
                return OSError("it is another image than when it was listed; run again")
            self.cache.write(image_id, out)
        return None


def pixels_of_run(
    preprocess: Preprocess, limits: PoolSpec, max_bytes: int | None, *, device: str
) -> Pixels:
    """Return how images become pixels in this process, through the run's cache on this machine.

    Args:
        preprocess: Input of the tower.
        limits: The largest file and image.
        max_bytes: Bound of the cache; see `cache_of_run`.
        device: Where the tower is.
    """
    return Pixels(
        preprocess,
        cache_of_run(preprocess, max_bytes),
        limits.max_pixels,
        limits.max_bytes,
        pinned=device.startswith("cuda"),
    )


def batches(
    images: pa.Table, pixels: Pixels, quarantined: Quarantined, *, batch_size: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (rows, uint8 pixels of shape (batch, size, size, 3)); bad images go to quarantine.

    Cached images come first. A batch is as large as it can be, but for bad images and the last one.

    Args:
        images: Part of a pool, with columns `image_id`, `uri` and `bytes`.
        pixels: How they become pixels.
        quarantined: Receives the rows that cannot be used.
        batch_size: Images in a batch.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        for batch in ahead(_started(images, pixels, batch_size, threads), BATCHES_AHEAD):
            problems = [future.result() for future in batch.futures]
            for row, problem in zip(batch.rows, problems, strict=True):
                if problem is not None:
                    size = images["bytes"][row].as_py()
                    quarantined.add(images["uri"][row].as_py(), problem, num_bytes=size)
            good = [place for place, problem in enumerate(problems) if problem is None]
            if len(good) == len(batch.pixels):
                yield batch.rows, batch.pixels
            elif good:
                yield [batch.rows[place] for place in good], batch.pixels[good]


@dataclass
class _Batch:
    """A batch that threads are filling."""

    rows: list[int]
    pixels: Tensor
    futures: list[Future[Problem | None]]


def _started(
    images: pa.Table, pixels: Pixels, batch_size: int, threads: ThreadPoolExecutor
) -> Iterator[_Batch]:
    """Yield batches of all rows; threads have begun to fill each."""
    ids, uris = images["image_id"].to_pylist(), images["uri"].to_pylist()
    left = len(ids)
    encoded: deque[Future[Problem | None]] = deque()  # images in memory as files
    batch = _Batch([], pixels.new_batch(min(batch_size, left)), [])
    for row, data in _cached_first(ids, uris, pixels):
        out = batch.pixels[len(batch.rows)].numpy()
        batch.rows.append(row)
        batch.futures.append(threads.submit(pixels.fill, out, ids[row], uris[row], data))
        if data is not None:
            encoded.append(batch.futures[-1])
        if len(encoded) > ENCODED_AHEAD:
            encoded.popleft().result()
        if len(batch.rows) == len(batch.pixels):
            left -= len(batch.rows)
            yield batch
            batch = _Batch([], pixels.new_batch(min(batch_size, left)), [])


def _cached_first(
    ids: list[str], uris: list[str], pixels: Pixels
) -> Iterator[tuple[int, bytes | OSError | None]]:
    """Yield each row, with what is at its URI if its pixels are not cached."""
    pixels.cache.refresh()
    absent = []
    for row, image_id in enumerate(ids):
        if image_id in pixels.cache:
            yield row, None
        else:
            absent.append(row)
    wanted = [uris[row] for row in absent]
    for position, data in read_images(wanted, max_bytes=pixels.max_bytes):
        yield absent[position], data
