"""Intervals that cover, and a decision that is not talked into by looking often."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcore.estimates import Stratum, evidence, proportional_order, stratified_mean


def test_a_mean_weighs_strata_by_their_size() -> None:
    found = stratified_mean([Stratum(100, (1, 1, 0, 0)), Stratum(300, (1, 1, 1, 1))])
    assert found is not None
    assert found.mean == pytest.approx(0.25 * 0.5 + 0.75)
    assert found.half_width > 0.1  # four that are all right do not make it certain


def test_nothing_is_said_of_images_that_nobody_has_seen() -> None:
    assert stratified_mean([Stratum(5, (1,)), Stratum(5, ())]) is None
    assert stratified_mean([]) is None
    whole = stratified_mean([Stratum(0, ()), Stratum(3, (1, 0, 1))])
    assert whole is not None
    assert (whole.mean, whole.half_width) == (pytest.approx(2 / 3), 0.0)  # all are known


@pytest.mark.parametrize("rates", [(0.5, 0.9), (0.2, 0.99)])
def test_intervals_cover_the_truth(rates: tuple[float, float]) -> None:
    random = np.random.default_rng(0)
    sizes, covered, trials = (200, 1800), 0, 600
    pools = [random.random(size) < rate for size, rate in zip(sizes, rates, strict=True)]
    truth = np.concatenate(pools).mean()
    for _ in range(trials):
        drawn = [random.choice(pool, 50, replace=False).astype(int) for pool in pools]
        found = stratified_mean(
            [Stratum(size, tuple(one.tolist())) for size, one in zip(sizes, drawn, strict=True)]
        )
        assert found is not None
        covered += abs(found.mean - truth) <= found.half_width
    assert covered / trials > 0.93


@given(st.integers(0, 12), st.integers(0, 12))
def test_evidence_is_the_mean_likelihood_ratio(wins: int, losses: int) -> None:
    """The integral of p^w (1 - p)^l is 1 / ((n + 1) C(n, w))."""
    n = wins + losses
    expected = Fraction(2**n, (n + 1) * comb(n, wins))
    assert evidence(wins, losses) == pytest.approx(float(expected))
    assert evidence(wins, losses) == pytest.approx(evidence(losses, wins))


def test_evidence_is_a_martingale_if_both_are_equally_good() -> None:
    for wins in range(6):
        for losses in range(6):
            after = (evidence(wins + 1, losses) + evidence(wins, losses + 1)) / 2
            assert after == pytest.approx(evidence(wins, losses))


def test_looking_after_every_answer_rarely_deceives_and_finds_what_is_there() -> None:
    random = np.random.default_rng(1)

    def decided(rate: float) -> float:
        found = 0
        for _ in range(400):
            wins = np.cumsum(random.random(200) < rate)
            found += any(evidence(int(w), n - int(w)) >= 20 for n, w in enumerate(wins, 1))
        return found / 400

    assert decided(0.5) <= 0.05
    assert decided(0.7) > 0.9


def test_every_beginning_has_the_groups_by_their_share() -> None:
    groups = np.repeat([0, 1, 2], [60, 30, 10])
    order = proportional_order(groups, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(100))
    for size in (10, 20, 50):
        counts = np.bincount(groups[order[:size]], minlength=3)
        assert np.abs(counts - size * np.array([0.6, 0.3, 0.1])).max() <= 2
    other = proportional_order(groups, np.random.default_rng(1))
    assert order.tolist() != other.tolist()


def test_each_image_is_as_likely_as_any_to_be_among_the_first() -> None:
    groups = np.repeat([0, 1], [30, 10])
    counts = np.zeros(40)
    for seed in range(2000):
        counts[proportional_order(groups, np.random.default_rng(seed))[:8]] += 1
    assert np.abs(counts / 2000 - 0.2).max() < 0.05
