"""Universal entropy: its equation with loops, its gradient, and what it does to a pool."""

import math

import torch

from clipcore.backbone import Backbone
from clipcore.baselines.ueo import entropy, ueo, universal_entropy
from tests.worlds.evidence import evidence
from tests.worlds.tensors import draws


def loops(p: list[list[float]], w: list[float]) -> float:
    def h(row: list[float]) -> float:
        return -sum(one * math.log(one) for one in row if one > 0)

    sure = sum(weight / sum(w) * h(row) for row, weight in zip(p, w, strict=True))
    inverse = [1 / weight for weight in w]
    mean = [
        sum(v / sum(inverse) * row[k] for row, v in zip(p, inverse, strict=True))
        for k in range(len(p[0]))
    ]
    return sure - h(mean)


def test_the_loss_is_the_equation() -> None:
    p = torch.randn(7, 4, generator=draws(), dtype=torch.float64).softmax(dim=1)
    w = p.max(dim=1).values
    assert math.isclose(float(universal_entropy(p, w)), loops(p.tolist(), w.tolist()))


def test_its_gradient_is_right_and_finite_at_certainty() -> None:
    logits = torch.randn(5, 3, generator=draws(), dtype=torch.float64, requires_grad=True)
    w = torch.rand(5, generator=draws(1), dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(lambda x: universal_entropy(x.softmax(dim=1), w), logits)
    certain = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    universal_entropy(certain.softmax(dim=1), torch.ones(1)).backward()
    assert certain.grad is not None
    assert bool(torch.isfinite(certain.grad).all())


def test_with_equal_confidences_it_is_minus_the_mutual_information() -> None:
    p = torch.randn(6, 3, generator=draws()).softmax(dim=1)
    expected = entropy(p).mean() - entropy(p.mean(dim=0))
    torch.testing.assert_close(universal_entropy(p, torch.full((6,), 0.4)), expected)


def test_the_loss_of_the_pool_falls(loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    confidence = given.zero_shot.predict(given.pool)[1]
    before, after = (
        float(universal_entropy(ueo(given, 0, steps=steps).pool, confidence)) for steps in (0, 30)
    )
    assert after < before - 0.05


def test_the_affine_map_is_within_the_head(loaded_vit: Backbone) -> None:
    """It beats the words alone, and the contract test asks the head for the same scores."""
    given = evidence(load_backbone=lambda: loaded_vit)
    width, dim = loaded_vit.text.width, given.pool.shape[1]
    mapped, plain = (ueo(given, 0, steps=10, affine=affine) for affine in (True, False))
    assert mapped.num_parameters == 4 * width + 2 * dim
    assert plain.num_parameters == 4 * width
    assert mapped.head is not None
    assert plain.head is not None
    assert bool((mapped.head.bias != 0).any())
    torch.testing.assert_close(plain.head.bias, torch.zeros(3))
