"""The encoded images of a training set on this machine's disk, for reading in any order."""

import os
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from clipcore.images import Preprocess, decode, resize_and_crop
from tasks.images.pixels import THREADS
from tasks.images.sources import read_images

BATCHES_AHEAD = 2
DECODED_AT_ONCE = 64


class Spool:
    """A training set that is fetched once and then read at random, epoch after epoch.

    A bucket or a Parquet file would be read again and again for that. Here each image is found by
    its offset in one file without a name, whose space is free again when the process ends, however
    it ends; memory holds two numbers an image.
    """

    def __init__(self, preprocess: Preprocess, *, max_pixels: int) -> None:
        self._preprocess = preprocess
        self._max_pixels = max_pixels
        self._file = tempfile.TemporaryFile(prefix="coft-spool-")  # noqa: SIM115  # lives with self
        weakref.finalize(self, self._file.close)
        self._spans = np.zeros((0, 2), np.int64)

    def fill(self, uris: Sequence[str]) -> None:
        """Fetch the images; their order is how `load_pixels` counts them.

        Raises:
            OSError: one cannot be read any more, although it could when the pool was embedded.
        """
        self._spans = np.zeros((len(uris), 2), np.int64)
        for index, data in read_images(uris):
            if isinstance(data, OSError):
                raise data
            self._spans[index] = self._file.tell(), len(data)
            self._file.write(data)
        self._file.flush()

    def load_pixels(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield uint8 pixels of shape (batch, size, size, 3) for each batch of positions."""
        descriptor = self._file.fileno()
        with ThreadPoolExecutor(THREADS) as decoders:

            def pixels(position: int) -> np.ndarray:
                start, length = (int(value) for value in self._spans[position])
                data = os.pread(descriptor, length, start)
                return resize_and_crop(decode(data, max_pixels=self._max_pixels), self._preprocess)

            yield from _ahead(batches, pixels, decoders)


def map_pixels(uris: Sequence[str], preprocess: Preprocess, *, max_pixels: int) -> Tensor:
    """Return decoded images, uint8 of shape (images, size, size, 3), mapped from a nameless file.

    Raises:
        OSError: one cannot be read any more, although it could when the pool was embedded.
    """
    spool = Spool(preprocess, max_pixels=max_pixels)
    spool.fill(uris)
    shape = (len(uris), preprocess.size, preprocess.size, 3)
    with tempfile.TemporaryFile(prefix="coft-pixels-") as file:
        pixels = np.memmap(file, np.uint8, mode="w+", shape=shape)
    batches = torch.arange(len(uris)).split(DECODED_AT_ONCE)
    for positions, decoded in zip(batches, spool.load_pixels(batches), strict=True):
        pixels[positions.numpy()] = decoded.numpy()
    return torch.from_numpy(pixels)


def _ahead(
    batches: Iterable[Tensor],
    pixels: Callable[[int], np.ndarray],
    decoders: ThreadPoolExecutor,
) -> Iterator[Tensor]:
    """Decode the next batches while the caller works on this one."""
    waiting: deque[list[Future[np.ndarray]]] = deque()
    for batch in batches:
        waiting.append([decoders.submit(pixels, position) for position in batch.tolist()])
        if len(waiting) > BATCHES_AHEAD:
            yield _stack(waiting.popleft())
    while waiting:
        yield _stack(waiting.popleft())


def _stack(futures: Iterable[Future[np.ndarray]]) -> Tensor:
    return torch.from_numpy(np.stack([future.result() for future in futures]))
