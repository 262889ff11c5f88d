"""Which labels are believed: oracles with loops, and properties that any pool must satisfy."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clipcore.cleaning import cross_filter, label_gap, resolve_per_class, top_k_per_class
from tests.worlds.tensors import draws, random_features

CLASSES = 4

POOLS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, 5)), max_size=40)
"""(label, confidence) of each image; few confidences, so that there are ties."""


def as_tensors(pool: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    labels = torch.tensor([label for label, _ in pool], dtype=torch.long)
    return torch.tensor([confidence for _, confidence in pool], dtype=torch.float32), labels


def top_k(confidence: Tensor, labels: Tensor, k: int) -> list[int]:
    chosen = top_k_per_class(confidence, labels, num_classes=CLASSES, per_class=k)
    return chosen.tolist()


# --- the gap --------------------------------------------------------------------------------------


def test_label_gap_is_the_difference_of_cosines_at_the_label() -> None:
    images, positive, negative = (random_features(n, 8, n) for n in (6, 3, 4))
    negative = negative[:3]
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    expected = [
        F.cosine_similarity(v, positive[y], dim=0) - F.cosine_similarity(v, negative[y], dim=0)
        for v, y in zip(images, labels, strict=True)
    ]
    gap = label_gap(images, positive, negative, labels)
    torch.testing.assert_close(gap, torch.stack(expected))


# --- top-K per class ------------------------------------------------------------------------------


@given(POOLS, st.integers(1, 6))
def test_top_k_takes_each_image_once_and_at_most_k_of_a_class(
    pool: list[tuple[int, int]], k: int
) -> None:
    confidence, labels = as_tensors(pool)
    chosen = top_k(confidence, labels, k)
    assert len(set(chosen)) == len(chosen) <= CLASSES * k
    taken = torch.bincount(labels[chosen], minlength=CLASSES)
    assert torch.equal(taken, torch.bincount(labels, minlength=CLASSES).clamp(max=k))


@given(POOLS, st.integers(1, 6))
def test_top_k_is_the_sort_by_class_confidence_and_position(
    pool: list[tuple[int, int]], k: int
) -> None:
    expected = []
    for label in range(CLASSES):
        own = [i for i, (of, _) in enumerate(pool) if of == label]
        expected += sorted(own, key=lambda i: (-pool[i][1], i))[:k]
    assert top_k(*as_tensors(pool), k) == expected


@given(POOLS, st.integers(1, 6), st.randoms(use_true_random=False))
def test_top_k_follows_the_images_when_the_pool_is_shuffled(
    pool: list[tuple[int, int]], k: int, random: object
) -> None:
    labels = as_tensors(pool)[1]
    confidence = torch.linspace(0, 1, len(pool))[torch.randperm(len(pool), generator=draws())]
    order = list(range(len(pool)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = top_k(confidence[order], labels[order], k)
    assert [order[position] for position in shuffled] == top_k(confidence, labels, k)


@pytest.mark.parametrize(
    ("per_class", "classes", "minimum", "expected"),
    [(16, 100, 0, 16), (16, 10, 1600, 160), (16, 3, 100, 34), (64, 10, 640, 64), (1, 7, 8, 2)],
)
def test_per_class_is_raised_for_few_classes(
    per_class: int, classes: int, minimum: int, expected: int
) -> None:
    assert resolve_per_class(per_class, num_classes=classes, minimum_total=minimum) == expected
    assert expected * classes >= minimum


# --- the two peers judge each other ---------------------------------------------------------------

Peer = tuple[Tensor, Tensor, Tensor]
"""Image features, positive and negative class embeddings."""


def random_peer(seed: int) -> Peer:
    return (
        random_features(50, 8, seed),
        random_features(CLASSES, 8, seed + 100),
        random_features(CLASSES, 8, seed + 200),
    )


def clean_set(labeller: Peer, judge: Peer) -> set[tuple[int, int]]:
    """Return (image, label) of what one peer labels and the other keeps."""
    labels = (labeller[0] @ labeller[1].T).argmax(dim=1)
    kept = cross_filter(label_gap(*judge, labels))
    return {(int(i), int(labels[i])) for i in torch.nonzero(kept)}


def clean_sets(one: Peer, two: Peer) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    return clean_set(one, two), clean_set(two, one)


def test_swapping_the_peers_swaps_the_clean_sets() -> None:
    one, two = random_peer(0), random_peer(1)
    forward, backward = clean_sets(one, two), clean_sets(two, one)
    assert forward == backward[::-1]
    assert forward[0] != forward[1]


def test_a_peer_that_judges_itself_keeps_positive_gaps_at_its_own_prediction() -> None:
    one = random_peer(0)
    expected = set()
    for i, v in enumerate(one[0]):
        scores = [float(v @ t) for t in one[1]]
        y = scores.index(max(scores))
        if v @ one[1][y] > v @ one[2][y]:
            expected.add((i, y))
    assert 0 < len(expected) < 50
    assert clean_sets(one, one) == (expected, expected)
