"""Mutual information against its definition with loops, what it prefers, and senses by images."""

import math
from functools import reduce
from operator import add

import pytest
import torch
import torch.nn.functional as F

from clipcore.sentences import (
    PLAIN,
    Sums,
    choose,
    near_surest,
    nearest_sense,
    sums_of,
    surest,
)


def drawn(rows: int, classes: int, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(rows, classes, generator=draws)).softmax(dim=1)


def information(probabilities: torch.Tensor) -> float:
    """Return the mutual information, term by term, with a uniform weight on each image."""
    rows = probabilities.double().tolist()
    classes = range(len(rows[0]))
    mean = [sum(row[c] for row in rows) / len(rows) for c in classes]
    terms = (
        row[c] / len(rows) * math.log(row[c] / mean[c]) for row in rows for c in classes if row[c]
    )
    return sum(terms) / math.log(len(mean))


# --- mutual information ---------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "classes", "scale"), [(40, 3, 1), (7, 11, 4), (100, 2, 9)])
def test_mutual_information_is_its_definition(rows: int, classes: int, scale: float) -> None:
    p = drawn(rows, classes, scale)
    assert sums_of(p).mutual_information == pytest.approx(information(p), abs=1e-9)


def test_mutual_information_is_one_at_best_and_nothing_where_images_are_all_alike() -> None:
    assert sums_of(torch.eye(5).repeat(4, 1)).mutual_information == pytest.approx(1)
    assert sums_of(torch.eye(5)[[2] * 9]).mutual_information == pytest.approx(0, abs=1e-9)
    assert sums_of(torch.full((9, 5), 0.2)).mutual_information == pytest.approx(0, abs=1e-6)


def test_parts_add_up_to_the_whole() -> None:
    p = drawn(50, 4)
    parts = reduce(add, map(sums_of, p.split([1, 20, 29])))
    whole = sums_of(p)
    assert parts.num_images == 50
    assert torch.equal(parts.predicted, whole.predicted)
    assert parts.mutual_information == pytest.approx(whole.mutual_information, abs=1e-12)


# --- the choice -----------------------------------------------------------------------------------


def of_labels(labels: list[int], *, sure: float) -> Sums:
    """Return the sums of images that are surely of some class out of three."""
    rest = (1 - sure) / 2
    return sums_of(F.one_hot(torch.tensor(labels), 3) * (sure - rest) + rest)


EVEN = [0] * 20 + [1] * 20 + [2] * 20


def test_the_set_that_tells_images_apart_best_is_chosen() -> None:
    sets = {PLAIN: of_labels(EVEN, sure=0.7), "b": of_labels(EVEN, sure=0.9)}
    assert choose({**sets, "c": of_labels(EVEN, sure=0.8)}) == "b"


def test_the_plain_set_stays_unless_it_is_beaten() -> None:
    plain = of_labels(EVEN, sure=0.8)
    assert choose({PLAIN: plain}) == PLAIN
    assert choose({"same": of_labels(EVEN, sure=0.8), PLAIN: plain}) == PLAIN
    assert choose({"worse": of_labels(EVEN, sure=0.5), PLAIN: plain}) == PLAIN


@pytest.mark.parametrize(("kept", "chosen"), [(10, "sure"), (9, PLAIN)])
def test_a_set_that_takes_half_of_a_class_away_is_not_chosen(kept: int, chosen: str) -> None:
    plain = of_labels(EVEN, sure=0.6)
    sure = of_labels([0] * (40 - kept) + [1] * 20 + [2] * kept, sure=0.99)
    assert sure.mutual_information > plain.mutual_information
    assert sure.least_share(plain) == (kept / 20, 2)
    assert choose({PLAIN: plain, "sure": sure}) == chosen


def test_a_class_that_nearly_no_image_had_has_no_share_to_lose() -> None:
    plain = of_labels([0] * 50 + [1] * 41 + [2] * 9, sure=0.6)
    assert choose({PLAIN: plain, "sure": of_labels([0] * 50 + [1] * 50, sure=0.9)}) == "sure"


def test_few_images_prefer_no_set() -> None:
    for count, chosen in ((14, PLAIN), (15, "sure")):
        labels = [number % 3 for number in range(count)]
        sets = {PLAIN: of_labels(labels, sure=0.6), "sure": of_labels(labels, sure=0.9)}
        assert choose(sets) == chosen


# --- senses ---------------------------------------------------------------------------------------


def test_directions_lead_from_the_pool_to_the_surest_images_whatever_the_parts() -> None:
    draws = torch.Generator().manual_seed(1)
    features, p = torch.randn(60, 5, generator=draws), drawn(60, 3)
    cuts = [13, 30, 17]
    least = surest(torch.cat([surest(part, 8) for part in p.split(cuts)]), 8)[-1]
    parts = zip(features.split(cuts), p.split(cuts), strict=True)
    near = reduce(add, (near_surest(*part, least) for part in parts))
    for number in range(3):
        best = sorted(range(60), key=lambda row: -float(p[row, number]))[:8]
        expected = features[best].mean(dim=0) - features.mean(dim=0)
        torch.testing.assert_close(near.directions[number], expected)


def test_of_few_images_all_are_the_surest() -> None:
    p = drawn(4, 3)
    assert torch.equal(surest(p, 50)[-1], p.min(dim=0).values)
    assert surest(p[:0], 50).shape == (0, 3)


def test_the_sense_that_lies_in_the_direction_of_the_images_is_nearest() -> None:
    senses = F.normalize(torch.tensor([[1.0, 0.2, 0], [0.1, 1, 0], [0, 1, 0.9]]), dim=1)
    assert nearest_sense(torch.tensor([0.0, 3, 0.1]), senses) == 1
    assert nearest_sense(torch.tensor([0.0, 1, 1]), senses) == 2
    assert nearest_sense(torch.zeros(3), senses) == 0
