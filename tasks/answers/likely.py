"""The few classes that an image most likely shows, as a person may be offered them."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

OFFERED = 5  # a key each


class Likely(TypedDict):
    """A class, and how likely it is."""

    label: str
    probability: float


def likeliest(
    probabilities: np.ndarray, classes: Sequence[str], most: int = OFFERED
) -> list[list[Likely]]:
    """Return the likeliest classes of each image, the likeliest first.

    Args:
        probabilities: Of shape (images, classes).
        classes: Their names.
        most: Classes of each image, at most.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :most]
    return [
        [Likely(label=classes[number], probability=float(row[number])) for number in numbers]
        for row, numbers in zip(probabilities, order, strict=True)
    ]
