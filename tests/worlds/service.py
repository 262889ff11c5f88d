"""A served classifier of the smallest ViT, whose passes a test can hold back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from clipcore.classifier import Classifier, load_classifier
from tasks.serving.batcher import Served
from tests.worlds.classifier import save_tiny_classifier

TIMEOUT = 60  # seconds that no test should take


class Held(Classifier):
    """A classifier that waits before each pass until it may go on, and remembers their sizes."""

    go: threading.Event
    batches: list[int]

    def probabilities(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(pixels))
        assert self.go.wait(TIMEOUT)
        return super().probabilities(pixels)


def held(folder: Path, *, seed: int = 0, uri: str = "models:/pets/1") -> tuple[Served, Any]:
    """Return a model, and its classifier, which does not wait until it is told to."""
    classifier = load_classifier(save_tiny_classifier(folder, seed=seed))
    classifier.__class__ = Held
    assert isinstance(classifier, Held)
    classifier.go, classifier.batches = threading.Event(), []
    classifier.go.set()
    served = Served.of(uri, classifier, classifier.encoders)
    classifier.batches.clear()
    return served, classifier


@contextmanager
def at_work(classifier: Any) -> Iterator[None]:
    """Let the model be in a pass for the time of the block."""
    classifier.go.clear()
    try:
        yield
    finally:
        classifier.go.set()
