"""The few classes that an image most likely shows, as a person may be offered them."""

from collections.abc import Sequence

import numpy as np

OFFERED = 5  # a key each


def likeliest(
    probabilities: np.ndarray, classes: Sequence[str], most: int = OFFERED
) -> list[list[dict[str, object]]]:
    """Return (label, probability) of the likeliest classes of each image, the likeliest first.

    Args:
        probabilities: Of shape (images, classes).
        classes: Their names.
        most: Classes of each image, at most.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :most]
    return [
        [{"label": classes[number], "probability": float(row[number])} for number in numbers]
        for row, numbers in zip(probabilities, order, strict=True)
    ]
