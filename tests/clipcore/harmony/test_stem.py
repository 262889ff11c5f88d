"""Stems: principal components, in pieces or at once, of any width."""

import pytest
import torch
import torch.nn.functional as F

from clipcore.harmony.stem import WrongWidth, fit_stem, shared_stem
from tests.worlds.tensors import draws


def inputs(count: int, width: int) -> torch.Tensor:
    """Return samples whose spread falls from number to number."""
    spread = torch.arange(width, 0, -1).float()
    return 5 + spread * torch.randn(count, width, generator=draws())


def test_pieces_give_the_same_as_all_at_once() -> None:
    rows = inputs(300, 12)
    one, two = fit_stem([rows], dim=8), fit_stem(rows.split(70), dim=8)
    torch.testing.assert_close(one(rows), two(rows), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("whitening", "power"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_components_are_uncorrelated_with_the_spread_that_was_asked_for(
    whitening: float, power: float
) -> None:
    rows = inputs(2000, 6)
    stem = fit_stem([rows], dim=6, whitening=whitening)
    projected = (rows - stem.mean) @ stem.components
    covariance = projected.T.cov().double()
    variances = torch.linalg.eigvalsh(rows.double().T.cov()).flip(0)
    expected = variances**power
    near = 0.02 * float(expected[0])
    torch.testing.assert_close(covariance, torch.diag(expected), atol=near, rtol=0.01)


def test_what_it_makes_is_of_one_width_and_normed() -> None:
    for width in (4, 40):
        made = fit_stem([inputs(50, width)], dim=16)(inputs(50, width))
        assert made.shape == (50, 16)
        torch.testing.assert_close(made, F.layer_norm(made, (16,)), atol=1e-3, rtol=1e-3)


def test_constant_inputs_and_few_samples_are_finite() -> None:
    for rows in (torch.ones(5, 3), inputs(2, 30), inputs(1, 3)):
        assert torch.isfinite(fit_stem([rows], dim=8)(rows)).all()


def test_another_width_is_refused() -> None:
    with pytest.raises(WrongWidth, match="expected features of 12 numbers, got 11"):
        fit_stem([inputs(20, 12)])(inputs(3, 11))


def test_a_shared_stem_keeps_what_features_say_of_each_other() -> None:
    inputs = F.normalize(torch.randn(50, 24, generator=draws()), dim=1)
    same = shared_stem(24, dim=32)
    assert torch.equal(inputs @ same.components, torch.cat([inputs, torch.zeros(50, 8)], dim=1))
    fewer = shared_stem(24, dim=12)
    torch.testing.assert_close(fewer.components.T @ fewer.components, torch.eye(12))
    assert torch.equal(fewer.components, shared_stem(24, dim=12).components)
    assert same(inputs).shape[1] == 32
