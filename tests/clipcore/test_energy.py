"""An image unlike all classes is told by its rank in a pool, whatever the scale of logits."""

import math

import pytest
import torch

from clipcore.energy import QUANTILES, energies, none_of_these, quantiles


def test_the_score_is_the_equation_in_loops() -> None:
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    for sample, found in enumerate(energies(logits).tolist()):
        sums = [
            math.log(sum(math.exp(value) for value in member[sample].tolist())) for member in logits
        ]
        assert found == pytest.approx(sum(sums) / 3, abs=1e-5)


def test_shares_of_the_pool_itself_are_alike_often() -> None:
    draws = torch.Generator().manual_seed(0)
    scores = torch.randn(5000, generator=draws).exp()
    pool = torch.tensor(quantiles(scores))
    assert len(pool) == QUANTILES
    shares = none_of_these(torch.randn(5000, generator=draws).exp(), pool)
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert (shares > 0.9).float().mean() == pytest.approx(0.1, abs=0.02)
    exact = torch.stack([(scores > score).float().mean() for score in scores[:200]])
    assert none_of_these(scores[:200], pool).tolist() == pytest.approx(exact.tolist(), abs=0.01)


def test_what_is_beyond_the_pool_is_at_the_ends() -> None:
    pool = torch.tensor(quantiles(torch.tensor([1.0, 2.0, 3.0])))
    assert none_of_these(torch.tensor([-9.0, 1.0, 2.0, 3.0, 9.0]), pool).tolist() == pytest.approx(
        [1, 1, 0.5, 0, 0]
    )


def test_a_pool_of_one_value_or_of_none_is_a_pool() -> None:
    assert quantiles(torch.zeros(0)) == []
    one = torch.tensor(quantiles(torch.full((4,), 7.0)))
    assert none_of_these(torch.tensor([6.0, 8.0]), one).tolist() == [1, 0]
