"""From URIs to batches of pixels: bytes read ahead, decoded in threads, never all in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clipcore.images import BadImage, Preprocess, decode, resize_and_crop
from tasks.images.quarantine import Quarantined
from tasks.images.sources import read_images
from tasks.specs import PoolSpec

THREADS = max(2, os.cpu_count() or 1)
AHEAD = 16 * THREADS  # decoded images that wait for the device


@dataclass
class BatchSize:
    """Images of one forward pass; halved for good when the device runs out of memory."""

    images: int

    def run(
        self, forward: Callable[[Tensor], tuple[Tensor, ...]], pixels: Tensor
    ) -> tuple[Tensor, ...]:
        """Return what `forward` gives for all pixels, in pieces that fit.

        `forward` returns tensors whose last axis but one is the images.
        """
        try:
            starts = range(0, len(pixels), self.images)
            pieces = [forward(pixels[start : start + self.images]) for start in starts]
        except torch.cuda.OutOfMemoryError:
            if self.images == 1:
                raise
            self.images = max(1, self.images // 2)
            torch.cuda.empty_cache()
            return self.run(forward, pixels)
        return tuple(torch.cat(same, dim=-2) for same in zip(*pieces, strict=True))


def decode_images(
    images: pa.Table, preprocess: Preprocess, *, limits: PoolSpec
) -> Iterator[tuple[int, np.ndarray | BadImage | OSError]]:
    """Yield (row, uint8 pixels of shape (size, size, 3), or why there are none) of a pool's part.

    Reads and decodes a bounded number of images ahead of the caller; the order is not that of rows.
    """

    def pixels(data: bytes | OSError) -> np.ndarray | BadImage | OSError:
        if isinstance(data, OSError):
            return data
        try:
            return resize_and_crop(decode(data, max_pixels=limits.max_pixels), preprocess)
        except BadImage as error:
            return error

    waiting: deque[tuple[int, Future[np.ndarray | BadImage | OSError]]] = deque()
    with ThreadPoolExecutor(THREADS) as decoders:
        uris = images["uri"].to_pylist()
        for row, data in read_images(uris, max_bytes=limits.max_bytes):
            waiting.append((row, decoders.submit(pixels, data)))
            if len(waiting) > AHEAD:
                ready, future = waiting.popleft()
                yield ready, future.result()
        for ready, future in waiting:
            yield ready, future.result()


def batches(
    images: pa.Table,
    preprocess: Preprocess,
    quarantined: Quarantined,
    *,
    batch_size: int,
    limits: PoolSpec,
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (rows, uint8 pixels of shape (batch, size, size, 3)); bad images go to quarantine.

    Args:
        images: Part of a pool, with columns `uri` and `bytes`.
        preprocess: How the tower wants its pixels.
        quarantined: Receives the rows that cannot be used.
        batch_size: Images of a batch; the last one is smaller.
        limits: The largest file and image that are taken.
    """
    rows: list[int] = []
    pixels: list[np.ndarray] = []
    for row, image in decode_images(images, preprocess, limits=limits):
        if isinstance(image, np.ndarray):
            rows.append(row)
            pixels.append(image)
        else:
            size = images["bytes"][row].as_py()
            quarantined.add(images["uri"][row].as_py(), image, num_bytes=size)
        if len(pixels) == batch_size:
            yield rows, torch.from_numpy(np.stack(pixels))
            rows, pixels = [], []
    if pixels:
        yield rows, torch.from_numpy(np.stack(pixels))
