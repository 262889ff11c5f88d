"""One thread runs the model, each time on all images that wait, whichever client they are from.

Nothing waits for a batch to fill: while the model is at work images gather, and are the next batch.
So one client is answered at once, and many share a forward pass.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from time import monotonic
from typing import Any

import torch

from clipcore.inference import LARGEST_BATCH, BatchSize, Encoder
from clipcore.rows import Answering

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """A model in memory, where it came from, and how many rows it takes at once."""

    uri: str
    model: Answering
    batch_size: int

    @classmethod
    def of(cls, uri: str, model: Answering, encoders: Sequence[Encoder]) -> "Served":
        """Return a model whose towers have run once, so that no client waits for the first time.

        Args:
            uri: Of the model.
            model: What answers.
            encoders: Its towers.
        """
        for encode in encoders:
            size = encode.preprocess.size
            encode(torch.zeros(1, size, size, 3, dtype=torch.uint8))
        sizes = [BatchSize.fitting(encode).images for encode in encoders]
        return cls(uri, model, min(sizes, default=LARGEST_BATCH))


@dataclass(frozen=True)
class Waiting:
    """What was read of a row, the model that it was read for, and who waits for it."""

    served: Served
    item: Any
    answer: "Future[Any]" = field(default_factory=Future)


class Batcher:
    """The thread of the model.

    Args:
        seen: Called after each batch with its number of images and its seconds.
    """

    def __init__(self, seen: Callable[[int, float], None] = lambda _images, _seconds: None) -> None:
        self._seen = seen
        self._waiting: deque[Waiting] = deque()
        self._changed = Condition()
        self._stopping = False
        self._thread = Thread(target=self._run, name="coft-model", daemon=True)
        self._thread.start()

    def submit(self, served: Served, item: Any) -> "Future[Any]":
        """Return what the model says of an item, when it is there."""
        image = Waiting(served, item)
        with self._changed:
            self._waiting.append(image)
            self._changed.notify()
        return image.answer

    def __len__(self) -> int:
        """Return how many images wait for the model."""
        return len(self._waiting)

    def is_alive(self) -> bool:
        """Return whether the thread is there."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Answer what waits, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            started = monotonic()
            try:
                found = batch[0].served.model.find([image.item for image in batch])
            except Exception as error:  # what is wrong with one batch may not be with the next
                logger.exception("a batch of %d images failed", len(batch))
                for image in batch:
                    image.answer.set_exception(error)
                continue
            self._seen(len(batch), monotonic() - started)
            for image, said in zip(batch, found, strict=True):
                image.answer.set_result(said)

    def _next(self) -> list[Waiting]:
        """Return the images that wait first and for the same model; none when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            batch: list[Waiting] = []
            while self._waiting and (
                not batch
                or (
                    self._waiting[0].served is batch[0].served
                    and len(batch) < batch[0].served.batch_size
                )
            ):
                batch.append(self._waiting.popleft())
            return batch
