"""Pen strokes derived from scans of handwriting: how a pen may have gone, not how it went.

A scan is enlarged and thinned to lines of one pixel. These are followed from an end, straight on at
a crossing; then the pen is lifted to the next end.
"""

from collections.abc import Container, Iterable

import numpy as np
from PIL import Image

POINTS = 64
_SIZE = 32  # of an enlarged scan
_INK = 0.4  # of the darkest pixel: more is ink
_INERTIA = 0.6  # of the heading at each step
_AROUND = (1j, 1 + 1j, -1 + 1j, 1, -1, 1 - 1j, -1 - 1j, -1j)  # a pen goes down first
_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # from the north
_CORNERS = ((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))  # of the two halves of a pass


def strokes(scans: np.ndarray) -> np.ndarray:
    """Return the path of the pen of each scan.

    Args:
        scans: Of shape (samples, rows, columns), ink above ground; none is empty.

    Returns:
        Of shape (samples, POINTS * 4), float32: x, y and the direction of the pen as two numbers,
        at equal distances along the path. Positions are relative to the middle of the path, in
        standard deviations; the direction is (0, 0) where the pen is lifted.
    """
    lines = thinned(np.stack([_enlarged(scan) for scan in scans]))
    return np.stack([_sampled(*_followed(line)) for line in lines])


def thinned(ink: np.ndarray) -> np.ndarray:
    """Return lines of one pixel in the middle of what is inked (Zhang and Suen 1984).

    Args:
        ink: Of shape (samples, rows, columns), boolean.
    """
    while True:
        before = ink
        for corners in _CORNERS:
            padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
            rows, columns = ink.shape[1:]
            ring = np.stack(
                [padded[:, 1 + y : 1 + y + rows, 1 + x : 1 + x + columns] for y, x in _RING]
            )
            count, edges = ring.sum(axis=0), (~ring & np.roll(ring, -1, axis=0)).sum(axis=0)
            inside = np.any([ring[list(three)].all(axis=0) for three in corners], axis=0)
            ink = ink & ~((count >= 2) & (count <= 6) & (edges == 1) & ~inside)  # noqa: PLR2004
        if (ink == before).all():
            return ink


def _enlarged(scan: np.ndarray) -> np.ndarray:
    image = Image.fromarray(scan.astype(np.float32))
    pixels = np.asarray(image.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC))
    return np.asarray(pixels > _INK * pixels.max())


def _followed(line: np.ndarray) -> tuple[list[complex], list[bool]]:
    """Return the pixels of lines in the order of a pen, and which of them it was lifted to."""
    left = dict.fromkeys(complex(column, row) for row, column in np.argwhere(line).tolist())
    path, lifted = dict[complex, None](), list[bool]()
    while starts := [one for one in left if not _near(one, path)]:
        ends = [one for one in starts if len(_near(one, left)) == 1]
        pen = next(reversed(path), 0)
        stroke = _stroke(min(ends or starts, key=lambda one: abs(one - pen)), left)
        path.update(dict.fromkeys(stroke))
        lifted += [True] + [False] * (len(stroke) - 1)
    return list(path), lifted


def _stroke(start: complex, left: dict[complex, None]) -> list[complex]:
    """Take pixels away from a start to where there are no more, turning as little as may be."""
    del left[start]
    path, heading = [start], 0j
    while near := _near(path[-1], left):
        here, ahead = path[-1], heading.conjugate()
        path.append(max(near, key=lambda one: ((one - here) / abs(one - here) * ahead).real))
        del left[path[-1]]
        heading = _INERTIA * heading + (path[-1] - here) / abs(path[-1] - here)
    return path


def _near(pixel: complex, pixels: Container[complex]) -> list[complex]:
    return [pixel + step for step in _AROUND if pixel + step in pixels]


def _sampled(path: Iterable[complex], lifted: Iterable[bool]) -> np.ndarray:
    """Return points at equal distances along a path, with the direction at each."""
    points, up = np.array(path), np.array(lifted)
    along = np.concatenate([[0.0], np.abs(np.diff(points)).cumsum()])
    at = np.linspace(0, along[-1], POINTS)
    places = np.interp(at, along, points.real) + 1j * np.interp(at, along, points.imag)
    steps = np.gradient(places)
    inked = ~up[np.searchsorted(along, at).clip(min=1)]
    ways = np.where(inked, steps / np.abs(steps).clip(min=1e-9), 0)
    places = (places - places.mean()) / places.std()
    table = np.stack([places.real, places.imag, ways.real, ways.imag], axis=1)
    return table.astype(np.float32).ravel()
