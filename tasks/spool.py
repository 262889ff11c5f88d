"""The encoded images of a training set on this machine's disk, for reading in any order."""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clipcore.images import Preprocess, decode, fit
from tasks.pixels import THREADS
from tasks.sources import read_images

BATCHES_AHEAD = 2


class Spool:
    """A training set that is fetched once and then read at random, epoch after epoch.

    A bucket or a Parquet file would be read again and again for that. Here each image is found by
    its offset in one file, which goes when the spool does; memory holds two numbers an image.
    """

    def __init__(self, preprocess: Preprocess, *, max_pixels: int) -> None:
        self._preprocess = preprocess
        self._max_pixels = max_pixels
        self._folder = tempfile.TemporaryDirectory(prefix="coft-spool-")
        self._path = Path(self._folder.name) / "images"
        self._spans = np.zeros((0, 2), np.int64)

    def fill(self, uris: Sequence[str]) -> None:
        """Fetch the images; their order is how `load_pixels` counts them.

        Raises:
            OSError: one cannot be read any more, although it could when the pool was embedded.
        """
        self._spans = np.zeros((len(uris), 2), np.int64)
        with self._path.open("wb") as file:
            for index, data in read_images(uris):
                if isinstance(data, OSError):
                    raise data
                self._spans[index] = file.tell(), len(data)
                file.write(data)

    def load_pixels(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield uint8 pixels of shape (batch, size, size, 3) for each batch of positions."""
        with self._path.open("rb") as file, ThreadPoolExecutor(THREADS) as decoders:
            descriptor = file.fileno()

            def pixels(position: int) -> np.ndarray:
                start, length = (int(value) for value in self._spans[position])
                data = os.pread(descriptor, length, start)
                return fit(decode(data, max_pixels=self._max_pixels), self._preprocess)

            yield from _ahead(batches, pixels, decoders)


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
