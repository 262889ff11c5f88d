"""The images of a training set, read in random order in each epoch."""

import os
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from tasks.images.pixel_cache import write_all
from tasks.images.pixels import BATCHES_AHEAD, ENCODED_AHEAD, THREADS, Pixels, Problem
from tasks.images.sources import ahead, read_images

IMAGES_OF_A_COPY = 64
IMAGES_OF_A_TASK = 8  # of a thread: a copy from the cache takes less time than a task


class TrainingPixels:
    """Pixels of a training set by position; what the cache has no room for is decoded each time.

    Images that are not cached are fetched once. Their files are kept in one file without a name,
    whose space is freed when the process ends in any way; where that disk is full too, an image is
    fetched again each time.

    Args:
        pixels: How images become pixels.
        ids: Their names in the cache.
        uris: Where they are, in the same order.

    Raises:
        OSError: an image cannot be read any more.
        BadImage: it cannot be decoded any more.
    """

    def __init__(self, pixels: Pixels, ids: Sequence[str], uris: Sequence[str]) -> None:
        self._pixels = pixels
        self._ids = ids
        self._uris = uris
        self._files = _Files()
        pixels.cache.refresh()
        absent = [position for position, image_id in enumerate(ids) if image_id not in pixels.cache]
        wanted = [uris[position] for position in absent]
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(THREADS) as threads:
            for index, data in read_images(wanted, max_bytes=pixels.max_bytes):
                waiting.append(threads.submit(self._keep, absent[index], data))
                if len(waiting) > ENCODED_AHEAD:
                    waiting.popleft().result()
            for future in waiting:
                future.result()

    def __len__(self) -> int:
        return len(self._ids)

    def mapped(self) -> Tensor:
        """Return all, uint8 of shape (images, size, size, 3), mapped from a file without a name."""
        batches = torch.arange(len(self)).split(IMAGES_OF_A_COPY)
        size = self._pixels.preprocess.size
        with tempfile.TemporaryFile(prefix="coft-pixels-") as file:
            pixels = np.memmap(file, np.uint8, mode="w+", shape=(len(self), size, size, 3))
        for positions, batch in zip(batches, self.load(batches), strict=True):
            pixels[positions.numpy()] = batch.numpy()
        return torch.from_numpy(pixels)

    def load(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield uint8 pixels of shape (batch, size, size, 3) for each batch of positions."""
        with ThreadPoolExecutor(THREADS) as threads:
            started = (self._start(batch.tolist(), threads) for batch in batches)
            for batch, futures in ahead(started, BATCHES_AHEAD):
                for future in futures:
                    future.result()
                yield batch

    def _start(
        self, positions: list[int], threads: ThreadPoolExecutor
    ) -> tuple[Tensor, list[Future[None]]]:
        batch = self._pixels.new_batch(len(positions))
        out = batch.numpy()
        steps = range(0, len(positions), IMAGES_OF_A_TASK)
        pieces = [slice(start, start + IMAGES_OF_A_TASK) for start in steps]
        return batch, [threads.submit(self._fill, out[at], positions[at]) for at in pieces]

    def _fill(self, out: np.ndarray, positions: list[int]) -> None:
        for row, position in zip(out, positions, strict=True):
            image_id, uri = self._ids[position], self._uris[position]
            data = None if image_id in self._pixels.cache else self._files.read(position)
            _check(self._pixels.fill(row, image_id, uri, data))

    def _keep(self, position: int, data: bytes | OSError) -> None:
        """Decode an image into the cache, or keep its file when that is full."""
        cache = self._pixels.cache
        if cache.is_open:
            size = self._pixels.preprocess.size
            out = np.empty((size, size, 3), np.uint8)
            image_id, uri = self._ids[position], self._uris[position]
            _check(self._pixels.fill(out, image_id, uri, data))
            if image_id in cache:
                return
        if isinstance(data, OSError):
            raise data
        self._files.write(position, data)


class _Files:
    """The bytes of image files by number, in one file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+b", 0, prefix="coft-images-")  # noqa: SIM115  # lives with self
        weakref.finalize(self, self._file.close)
        self._spans: dict[int, tuple[int, int]] = {}
        self._end = 0
        self._lock = Lock()

    def write(self, number: int, data: bytes) -> None:
        """Keep a file, unless the disk is full."""
        with self._lock, suppress(OSError):
            write_all(self._file.fileno(), data, self._end)
            self._spans[number] = self._end, len(data)
            self._end += len(data)

    def read(self, number: int) -> bytes | None:
        """Return a file, or None if it was not kept."""
        span = self._spans.get(number)
        return None if span is None else os.pread(self._file.fileno(), span[1], span[0])


def _check(problem: Problem | None) -> None:
    if problem is not None:
        raise problem
