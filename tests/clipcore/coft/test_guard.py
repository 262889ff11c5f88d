"""The guard of Phase II, from agreements that are known."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipcore.coft.guard import Candidate, choose, peer_agreement

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        epoch=st.integers(0, 3),
        alpha=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
        agreement=st.sampled_from([0.5, 0.6, 0.7]),
    ),
    min_size=1,
    max_size=12,
)


@given(CANDIDATES, st.integers(1, 10_000))
def test_the_choice_agrees_like_the_best_and_none_like_it_went_further(
    candidates: list[Candidate], num_images: int
) -> None:
    chosen = choose(candidates, num_images=num_images)
    assert chosen in candidates
    best = max(candidate.agreement for candidate in candidates)
    error = math.sqrt(best * (1 - best) / num_images)
    assert chosen.agreement >= best - error
    for other in candidates:
        if other.agreement >= best - error and other.alpha > 0:
            assert chosen.alpha > 0
            assert (other.epoch, other.alpha) <= (chosen.epoch, chosen.alpha)


def test_a_difference_within_the_noise_does_not_undo_training() -> None:
    candidates = [Candidate(0, 0.0, 0.92), Candidate(0, 1.0, 0.90)]
    assert choose(candidates, num_images=100).alpha == 1.0
    assert choose(candidates, num_images=10_000).alpha == 0.0


def test_without_held_out_images_training_is_believed() -> None:
    candidates = [Candidate(0, 0.0, math.nan), Candidate(0, 1.0, math.nan)]
    assert choose(candidates, num_images=0).alpha == 1.0


@given(CANDIDATES, st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(
    candidates: list[Candidate], random: object
) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(candidates, num_images=50) == choose(shuffled, num_images=50)


def test_training_that_only_lowers_agreement_is_undone() -> None:
    candidates = [
        Candidate(epoch=epoch, alpha=alpha, agreement=0.9 - 0.1 * epoch * alpha - 0.05 * alpha)
        for epoch, alpha in itertools.product(range(3), (0.0, 0.5, 1.0))
    ]
    assert choose(candidates, num_images=1000).alpha == 0


def test_no_candidate_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        choose([], num_images=10)


def test_agreement_is_the_share_of_equal_predictions() -> None:
    one = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    two = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.1, 0.9]])
    assert peer_agreement(one, two) == 0.75
    assert peer_agreement(two, one) == 0.75
    assert peer_agreement(one, one) == 1
    assert peer_agreement(one, one.flip(1)) == 0


def test_agreement_on_nothing_is_not_a_number() -> None:
    assert math.isnan(peer_agreement(torch.zeros(0, 3), torch.zeros(0, 3)))
