"""One thread runs the model, each time on all images that wait, whichever client they are from.

Nothing waits for a batch to fill: while the model is at work images gather, and are the next batch.
So one client is answered at once, and many share a forward pass.
"""

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from time import monotonic

import numpy as np
import torch

from clipcore.classifier import Classifier
from clipcore.inference import BatchSize

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """A classifier in memory, where it came from, and how many images it takes at once."""

    uri: str
    classifier: Classifier
    batch_size: int

    @classmethod
    def of(cls, uri: str, classifier: Classifier) -> "Served":
        """Return a classifier that has run once, so that no client waits for its first time."""
        batch_size = BatchSize.fitting(classifier.encoders[0]).images
        size = classifier.preprocess.size
        classifier.probabilities(torch.zeros(1, size, size, 3, dtype=torch.uint8))
        return cls(uri, classifier, batch_size)


@dataclass(frozen=True)
class Waiting:
    """The pixels of an image, the model that they were prepared for, and who waits for it."""

    served: Served
    pixels: np.ndarray
    answer: "Future[np.ndarray]" = field(default_factory=Future)


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

    def submit(self, served: Served, pixels: np.ndarray) -> "Future[np.ndarray]":
        """Return the class probabilities of an image, when they are there."""
        image = Waiting(served, pixels)
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
                pixels = torch.from_numpy(np.stack([image.pixels for image in batch]))
                found = batch[0].served.classifier.probabilities(pixels).numpy()
            except Exception as error:  # what is wrong with one batch may not be with the next
                logger.exception("a batch of %d images failed", len(batch))
                for image in batch:
                    image.answer.set_exception(error)
                continue
            self._seen(len(batch), monotonic() - started)
            for image, probabilities in zip(batch, found, strict=True):
                image.answer.set_result(probabilities)

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
