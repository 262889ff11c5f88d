"""A linear head learns what a method says."""

import torch

from clipcore.baselines.distil import distilled
from clipcore.baselines.propagated import label_propagation
from clipcore.head import Head
from tests.worlds.evidence import evidence
from tests.worlds.tensors import draws


def test_a_linear_method_is_found_again() -> None:
    given = evidence(classes=3, per_class=60)
    bias = torch.tensor([0.3, -0.2, -0.1])
    teacher = Head(given.text + 0.1 * torch.randn(3, 32, generator=draws(5)), 5.0, bias)
    found = distilled(given.pool, teacher.probabilities(given.pool), given.zero_shot, ridge=0.0)
    torch.testing.assert_close(
        found.probabilities(given.test), teacher.probabilities(given.test), atol=0.05, rtol=0
    )


def test_a_method_that_is_not_linear_is_followed_on_nearly_all_images() -> None:
    given = evidence(classes=5, per_class=60, spread=1.5, gap=4.0, test=200, seed=1)
    scores = label_propagation(given, 0)
    found = distilled(given.pool, scores.pool, given.zero_shot)
    same = found.predict(given.test)[0] == scores.test.argmax(dim=1)
    before = given.zero_shot.predict(given.test)[0] == scores.test.argmax(dim=1)
    assert float(same.float().mean()) > float(before.float().mean()) + 0.05


def test_a_strong_ridge_keeps_the_start() -> None:
    given = evidence()
    scores = label_propagation(given, 0)
    found = distilled(given.pool, scores.pool, given.zero_shot, ridge=1e6)
    torch.testing.assert_close(
        found.probabilities(given.test),
        given.zero_shot.probabilities(given.test),
        atol=1e-3,
        rtol=0,
    )
