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
    """A training set that is fetched once and then read in random order in each epoch.

    All images are in one file without a name, whose space is freed when the process ends in any
    way. Memory holds the offset and the length of each image.

    Args:
        preprocess: Input of the tower.
        max_pixels: Larger images are not decoded.
    """

    def __init__(self, preprocess: Preprocess, *, max_pixels: int) -> None:
        self._preprocess = preprocess
        self._max_pixels = max_pixels
        self._file = tempfile.TemporaryFile(prefix="coft-spool-")  # noqa: SIM115  # lives with self
        weakref.finalize(self, self._file.close)
        self._spans = np.zeros((0, 2), np.int64)

    def fill(self, uris: Sequence[str]) -> None:
        """Fetch the images; `load_pixels` refers to their positions in `uris`.

        Raises:
            OSError: an image cannot be read any more.
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

            yield from _decode_ahead(batches, pixels, decoders)


def map_pixels(uris: Sequence[str], preprocess: Preprocess, *, max_pixels: int) -> Tensor:
    """Return decoded images, uint8 of shape (images, size, size, 3), mapped from a nameless file.

    Args:
        uris: Of the images.
        preprocess: Input of the tower.
        max_pixels: Larger images are not decoded.

    Raises:
        OSError: an image cannot be read any more.
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


def _decode_ahead(
    batches: Iterable[Tensor],
    pixels: Callable[[int], np.ndarray],
    decoders: ThreadPoolExecutor,
) -> Iterator[Tensor]:
    """Decode the next batches while the caller works on this one."""
    queue: deque[list[Future[np.ndarray]]] = deque()
    for batch in batches:
        queue.append([decoders.submit(pixels, position) for position in batch.tolist()])
        if len(queue) > BATCHES_AHEAD:
            yield _stack(queue.popleft())
    while queue:
        yield _stack(queue.popleft())


def _stack(futures: Iterable[Future[np.ndarray]]) -> Tensor:
    return torch.from_numpy(np.stack([future.result() for future in futures]))
