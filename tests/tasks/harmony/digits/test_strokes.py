"""Pen paths of shapes whose course is known, and thinning held against connectivity."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.datasets import load_digits

from tasks.harmony.digits.strokes import POINTS, strokes, thinned

EIGHT = np.ones((3, 3))  # neighbours of a pixel, corners among them


def path(*inked: tuple[slice, slice]) -> np.ndarray:
    """The path of a scan in which these parts are inked: x, y and direction of each point."""
    scan = np.zeros((8, 8))
    for part in inked:
        scan[part] = 16
    return strokes(scan[None]).reshape(POINTS, 4)


def lifted(points: np.ndarray) -> np.ndarray:
    return (points[:, 2:] == 0).all(axis=1)


def test_a_bar_is_drawn_downwards() -> None:
    points = path((slice(1, 7), slice(3, 5)))
    assert not lifted(points).any()
    np.testing.assert_allclose(points[:, 2:], [[0, 1]] * POINTS, atol=1e-6)
    assert (np.diff(points[:, 1]) > 0).all()


def test_a_corner_is_drawn_in_one_go() -> None:
    points = path((slice(0, 8), slice(1, 2)), (slice(7, 8), slice(1, 8)))  # an L
    assert not lifted(points).any()
    assert points[5, 3] > 0.99  # down first
    assert points[-5, 2] > 0.99  # then to the right


def test_a_pen_goes_straight_on_at_a_crossing_and_is_lifted_to_the_rest() -> None:
    points = path((slice(0, 8), slice(3, 5)), (slice(3, 5), slice(0, 8)))  # a plus
    up = np.flatnonzero(lifted(points))
    assert len(up)
    first = points[: up[0]]
    assert first[:, 3].mean() > 0.9  # all the way down
    assert first[-1, 1] - first[0, 1] > 2  # in standard deviations
    assert np.abs(points[up[-1] + 2 :][:, 2]).max() > 0.99


def test_a_pen_turns_as_little_as_may_be_at_a_fork() -> None:
    line = [(2 + step, 5 - step) for step in range(6)]  # from the right to the lower left
    branch = [(4 + step, 3 + step) for step in range(4)]  # and to the lower right
    inked = [(slice(row, row + 1), slice(column, column + 1)) for row, column in line + branch]
    points = path(*inked)
    first = points[: np.flatnonzero(lifted(points))[0]]
    assert first[0, 1] == points[:, 1].min()
    assert first[-1, 0] < -1  # in standard deviations, to the left


def test_two_bars_are_two_strokes() -> None:
    points = path((slice(1, 7), slice(1, 2)), (slice(1, 7), slice(6, 7)))
    up = np.flatnonzero(lifted(points))
    assert (np.diff(up) == 1).all()
    assert (points[: up[0], 0] < 0).all()
    assert (points[up[-1] + 1 :, 0] > 0).all()


def test_a_stroke_begins_at_an_end_though_its_middle_is_nearer() -> None:
    points = path((slice(0, 4), slice(1, 2)), (slice(0, 8), slice(6, 7)))
    up = np.flatnonzero(lifted(points))
    assert (np.diff(up) == 1).all()
    np.testing.assert_allclose(np.abs(points[up[-1] + 2 :, 3]), 1, atol=1e-6)


def test_a_direction_has_length_one_or_the_pen_is_lifted() -> None:
    points = strokes(load_digits().images[:60]).reshape(-1, 4)
    length = np.linalg.norm(points[:, 2:], axis=1)
    np.testing.assert_allclose(length[length > 0], 1, rtol=1e-5)
    assert 0 < (length == 0).mean() < 0.3


def test_where_a_path_is_and_how_large_changes_nothing() -> None:
    small = path((slice(1, 4), slice(1, 2)), (slice(3, 4), slice(1, 4)))
    moved = path((slice(4, 7), slice(3, 4)), (slice(6, 7), slice(3, 6)))
    assert np.abs(small - moved).mean() < 0.1


def test_thin_lines_are_inside_thinner_and_as_connected() -> None:
    ink = load_digits().images[:40].repeat(4, axis=1).repeat(4, axis=2) > 6
    lines = thinned(ink)
    assert (lines <= ink).all()
    for before, after in zip(ink, lines, strict=True):
        assert ndimage.label(before, EIGHT)[1] == ndimage.label(after, EIGHT)[1]
        assert ndimage.label(~np.pad(before, 1))[1] == ndimage.label(~np.pad(after, 1))[1]
        blocks = after[1:, 1:] & after[:-1, 1:] & after[1:, :-1] & after[:-1, :-1]
        assert blocks.sum() <= 1
    assert lines.sum() < ink.sum() / 3


@pytest.mark.parametrize("count", [1, 3])
def test_scans_do_not_depend_on_those_beside_them(count: int) -> None:
    scans = load_digits().images
    np.testing.assert_array_equal(strokes(scans[:count])[-1], strokes(scans[:20])[count - 1])
