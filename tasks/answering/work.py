"""What the page is about, behind one contract: active rounds, or any other list of questions."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tasks.answering.desk import Desk


class Work(Protocol):
    """Questions that come, and what is made of their answers."""

    @property
    def title(self) -> str:
        """Return what stands above the page."""

    @property
    def folder(self) -> str:
        """Return where the record of answers is."""

    @property
    def features(self) -> Mapping[str, np.ndarray]:
        """Return vectors of images by id, to find those that look alike."""

    @property
    def max_pixels(self) -> int:
        """Return the size from which on an image is not decoded."""

    def classes(self) -> Sequence[str]:
        """Return the class names; none while they are not known."""

    def look(self, desk: Desk) -> None:
        """Put new questions on the desk, and do what the answers call for; called every second."""

    def go_on(self) -> str:
        """Do what a person asks for before all is answered; return a sentence on what it is."""

    def facts(self, desk: Desk) -> Mapping[str, Any]:
        """Return what the page shows beside the questions, as JSON."""

    def close(self) -> Sequence[str]:
        """Stop what goes on, and return lines for the person: how to go on."""


def most_alike(
    features: Mapping[str, np.ndarray], image_id: str, labels: Mapping[str, str], most: int = 3
) -> list[tuple[str, str, float]]:
    """Return the labelled images with the highest cosine similarity to one, itself left out.

    Args:
        features: Of images by id; of one that is not here nothing is like it.
        image_id: The image.
        labels: Classes of images by id.
        most: Images to return.
    """
    others = [image for image in labels if image in features and image != image_id]
    if image_id not in features or not others:
        return []
    stacked = np.stack([_unit(features[image]) for image in others])
    cosines = stacked @ _unit(features[image_id])
    best = np.argsort(-cosines, kind="stable")[:most]
    return [(others[row], labels[others[row]], float(cosines[row])) for row in best]


def _unit(vector: np.ndarray) -> np.ndarray:
    wide: np.ndarray = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(wide)) or 1.0
    unit: np.ndarray = wide / length
    return unit
