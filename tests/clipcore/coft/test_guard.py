"""The guard: coherence beside loops, and choices among candidates that are known."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clipcore.coft.guard import (
    MIN_IMAGES,
    PHASE_1,
    ZERO_SHOT,
    Candidate,
    choose,
    coherence,
    unread,
)
from clipcore.propagation import fitting_k
from tests.worlds.tensors import random_features

ENDS = [(ZERO_SHOT, 0.0), (PHASE_1, 0.0), *itertools.product(range(3), (0.25, 0.5, 1.0))]
CANDIDATES = st.lists(
    st.builds(
        lambda end, coherence: Candidate(*end, coherence),
        st.sampled_from(ENDS),
        st.sampled_from([-0.1, 0.5, 0.6, 0.7]),
    ),
    min_size=1,
    max_size=12,
)


def by_loops(labels: Tensor, features: Tensor, num_classes: int) -> float:
    k = fitting_k(len(labels), num_classes)
    same = []
    for i, one in enumerate(features):
        others = sorted(
            (j for j in range(len(features)) if j != i), key=lambda j: -float(one @ features[j])
        )
        same += [bool(labels[i] == labels[j]) for j in others[:k]]
    by_chance = sum((float((labels == c).float().mean())) ** 2 for c in range(num_classes))
    return (sum(same) / len(same) - by_chance) / (1 - by_chance)


@pytest.mark.parametrize(("count", "num_classes"), [(40, 3), (61, 2), (12, 7)])
def test_coherence_is_that_of_loops(count: int, num_classes: int) -> None:
    features = random_features(count, 5)
    labels = torch.randint(num_classes, (count,), generator=torch.Generator().manual_seed(0))
    measured = coherence(labels, features, num_classes=num_classes)
    assert measured == pytest.approx(by_loops(labels, features, num_classes), abs=1e-5)


def test_wrong_labels_make_it_less_and_one_class_for_all_makes_it_nothing() -> None:
    centres = torch.eye(4, 16).repeat_interleave(30, dim=0)
    noise = 0.1 * torch.randn(120, 16, generator=torch.Generator().manual_seed(0))
    features = torch.nn.functional.normalize(centres + noise, dim=1)
    right = torch.arange(4).repeat_interleave(30)
    wrong = right.clone()
    wrong[::3] = (wrong[::3] + 1) % 4
    assert coherence(right, features, num_classes=4) == pytest.approx(1)
    assert coherence(right.flip(0), features, num_classes=4) == pytest.approx(1)
    assert 0.2 < coherence(wrong, features, num_classes=4) < 0.6
    assert coherence(torch.zeros(120, dtype=torch.long), features, num_classes=4) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_has_no_coherence(count: int) -> None:
    labels = torch.zeros(count, dtype=torch.long)
    assert coherence(labels, torch.ones(count, 3), num_classes=2) == 0


@given(CANDIDATES, st.integers(MIN_IMAGES, 10_000))
def test_the_choice_is_as_coherent_as_the_best_and_none_like_it_went_further(
    candidates: list[Candidate], num_images: int
) -> None:
    chosen = choose(candidates, num_images=num_images)
    assert chosen in candidates
    best = max(candidate.coherence for candidate in candidates)
    floor = best - math.sqrt(max(0.0, best) * (1 - best) / num_images)
    assert chosen.coherence >= floor
    for other in candidates:
        if other.coherence >= floor:
            assert (other.epoch, other.alpha) <= (chosen.epoch, chosen.alpha)


def test_a_difference_within_the_noise_does_not_undo_training() -> None:
    candidates = [Candidate(PHASE_1, 0.0, 0.92), Candidate(0, 1.0, 0.90)]
    assert choose(candidates, num_images=100).alpha == 1
    assert choose(candidates, num_images=10_000).epoch == PHASE_1


def test_a_run_whose_trainings_all_fell_apart_ends_in_zero_shot() -> None:
    ends = [Candidate(PHASE_1, 0.0, 0.4), Candidate(0, 0.5, 0.3), Candidate(0, 1.0, 0.1)]
    assert choose([Candidate(ZERO_SHOT, 0.0, 0.7), *ends], num_images=200).epoch == ZERO_SHOT


@given(CANDIDATES, st.integers(0, MIN_IMAGES - 1))
def test_what_too_few_images_judge_is_not_trained_as_a_whole(
    candidates: list[Candidate], num_images: int
) -> None:
    chosen = choose(candidates, num_images=num_images)
    before = [one for one in candidates if one.epoch < 0]
    if before:
        assert chosen.epoch == max(one.epoch for one in before)


@given(CANDIDATES, st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(
    candidates: list[Candidate], random: object
) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, two = (choose(some, num_images=50) for some in (candidates, shuffled))
    assert (one.epoch, one.alpha) == (two.epoch, two.alpha)


def test_no_candidate_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        choose([], num_images=10)


# --- what zero-shot does not read -----------------------------------------------------------------


def test_what_is_left_says_nothing_of_class_embeddings_but_what_they_have_in_common() -> None:
    features, classes = random_features(50, 12), random_features(5, 12)
    rest = unread(features, classes)
    differences = classes - classes.mean(dim=0)
    torch.testing.assert_close(rest @ differences.T, torch.zeros(50, 5), atol=1e-6, rtol=0)
    torch.testing.assert_close(rest.norm(dim=1), torch.ones(50))
    read = torch.linalg.qr(differences[:4].T)[0]
    expected = features - features @ read @ read.T
    torch.testing.assert_close(rest, torch.nn.functional.normalize(expected, dim=1))


def test_equal_class_embeddings_read_nothing() -> None:
    features = random_features(20, 6)
    torch.testing.assert_close(unread(features, torch.ones(3, 6)), features)


def test_of_more_classes_than_dimensions_half_of_the_dimensions_stay() -> None:
    rest = unread(random_features(60, 10), random_features(40, 10))
    assert torch.linalg.matrix_rank(rest) == 5


def test_zero_shot_no_longer_beats_the_truth() -> None:
    """Two views of a class: zero-shot reads one, full of noise; the other one tells it as well."""
    draws = torch.Generator().manual_seed(0)
    truth = torch.arange(3).repeat(200)
    read = torch.eye(3, 3)[truth] + 0.8 * torch.randn(600, 3, generator=draws)
    other = torch.eye(3, 9)[truth] + 0.5 * torch.randn(600, 9, generator=draws)
    features = torch.nn.functional.normalize(torch.cat([3 * read, other], dim=1), dim=1)
    classes = torch.eye(3, 12)
    zero_shot = (features @ classes.T).argmax(dim=1)
    assert 0.6 < float((zero_shot == truth).float().mean()) < 0.8
    rest = unread(features, classes)
    assert coherence(zero_shot, features, num_classes=3) > coherence(truth, features, num_classes=3)
    assert coherence(zero_shot, rest, num_classes=3) < coherence(truth, rest, num_classes=3)
