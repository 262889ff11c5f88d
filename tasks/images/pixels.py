"""Batches of pixels from URIs: read ahead and decoded in threads, in bounded memory."""

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
    """Number of images in a forward pass; halved for good when the device runs out of memory."""

    images: int

    def run(
        self, forward: Callable[[Tensor], tuple[Tensor, ...]], pixels: Tensor
    ) -> tuple[Tensor, ...]:
        """Run `forward` over all pixels in pieces that fit, and concatenate the results.

        Args:
            forward: Returns tensors whose last axis but one is the images.
            pixels: uint8 of shape (images, size, size, 3).
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
    """Yield the row and the uint8 pixels, shape (size, size, 3), or the error of each image.

    A bounded number of images is read and decoded ahead of the caller, in any order of rows.

    Args:
        images: Part of a pool, with column `uri`.
        preprocess: Input of the tower.
        limits: The largest file and image.
    """

    def pixels(data: bytes | OSError) -> np.ndarray | BadImage | OSError:
        if isinstance(data, OSError):
            return data
        try:
            return resize_and_crop(decode(data, max_pixels=limits.max_pixels), preprocess)
        except BadImage as error:
            return error

    queue: deque[tuple[int, Future[np.ndarray | BadImage | OSError]]] = deque()
    with ThreadPoolExecutor(THREADS) as decoders:
        uris = images["uri"].to_pylist()
        for row, data in read_images(uris, max_bytes=limits.max_bytes):
            queue.append((row, decoders.submit(pixels, data)))
            if len(queue) > AHEAD:
                decoded_row, future = queue.popleft()
                yield decoded_row, future.result()
        for decoded_row, future in queue:
            yield decoded_row, future.result()


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
        preprocess: Input of the tower.
        quarantined: Receives the rows that cannot be used.
        batch_size: Images in a batch; the last one is smaller.
        limits: The largest file and image.
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
