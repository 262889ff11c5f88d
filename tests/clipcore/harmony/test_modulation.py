"""Historical features: the identity, the draws, and what the learned variant starts from."""

import pytest
import torch
from torch import Tensor

from clipcore.harmony.memory import ClassStatistics
from clipcore.harmony.modulation import LearnedModulation, compatibility, modulate
from tests.worlds.tensors import draws


def statistics(seed: int) -> tuple[Tensor, Tensor, ClassStatistics]:
    """Return samples, their classes and their statistics."""
    labels = torch.arange(60) % 3
    rows = (1 + seed) * torch.randn(60, 5, generator=draws(seed)) + labels[:, None] * seed
    return rows, labels, ClassStatistics.of(rows, labels, 3)


def test_a_modality_is_its_own_history() -> None:
    rows, labels, own = statistics(0)
    made = modulate(rows, labels, own, own, rho=1.0, generator=draws(), floor=0.0)
    torch.testing.assert_close(made, rows, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_draws_have_mean_and_spread_of_the_past(rho: float) -> None:
    """For rho over 0 they come from samples that have those of today."""
    _, _, today = statistics(0)
    _, _, past = statistics(2)
    count = 100_000
    labels = torch.full((count,), 1)
    noise = torch.randn(count, 5, generator=draws(7)).double()
    rows = (today.mean[1] + today.std[1] * noise).float()
    made = modulate(rows, labels, today, past, rho=rho, generator=draws(1), floor=0.0).double()
    error = past.std[1] / count**0.5
    assert bool(((made.mean(dim=0) - past.mean[1]).abs() < 4 * error).all())
    assert bool(((made.std(dim=0) - past.std[1]).abs() < 4 * error).all())


def test_no_gradient_goes_into_the_stem() -> None:
    rows, labels, own = statistics(0)
    rows.requires_grad_()
    made = modulate(rows, labels, own, own, rho=0.5, generator=draws())
    assert not made.requires_grad


def test_the_learned_one_changes_nothing_while_it_is_new_and_learns() -> None:
    rows, labels, _ = statistics(1)
    modulation = LearnedModulation(5, draws())
    made, gamma, beta = modulation(rows)
    assert torch.equal(made, rows)
    assert not gamma.any()
    assert not beta.any()
    other = ClassStatistics.of(rows + 3, labels, 3)
    optimizer = torch.optim.Adam(modulation.parameters(), lr=0.05)
    first = compatibility(modulation(rows)[0], labels, other).item()
    for _ in range(60):
        optimizer.zero_grad()
        compatibility(modulation(rows)[0], labels, other).backward()
        optimizer.step()
    assert compatibility(modulation(rows)[0], labels, other).item() < 0.5 * first


def test_compatibility_is_the_mean_squared_distance_in_deviations() -> None:
    rows, labels, past = statistics(1)
    expected = sum(
        (float(row[i]) - float(past.mean[k, i])) ** 2 / (float(past.std[k, i]) ** 2 + 1e-3)
        for row, k in zip(rows, labels.tolist(), strict=True)
        for i in range(5)
    )
    found = float(compatibility(rows, labels, past))
    assert found == pytest.approx(expected / rows.numel(), rel=1e-5)
