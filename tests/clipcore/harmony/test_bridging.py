"""Losses that tie today to the past, against loops; the gate that starts closed."""

import math

import pytest
import torch
import torch.nn.functional as F

from clipcore.harmony.bridging import (
    Aggregation,
    distribution_alignment,
    instance_alignment,
    retention,
)
from tests.worlds.tensors import draws, random_features

LABELS = torch.tensor([0, 2, 1, 1])


def test_retention_is_divergence_distance_and_cross_entropy() -> None:
    now, before = random_features(4, 6), random_features(4, 6, seed=1)
    one, two = 3 * now[:, :3], 3 * before[:, :3]
    parts = retention(now, before, one, two, LABELS)
    p, q = one.softmax(dim=1), two.softmax(dim=1)
    kl = sum(
        float(q[i, k]) * math.log(float(q[i, k]) / float(p[i, k]))
        for i in range(4)
        for k in range(3)
    )
    square = sum(float((now[i] - before[i]).square().sum()) for i in range(4))
    cross = -sum(math.log(float(p[i, k])) for i, k in enumerate(LABELS.tolist()))
    found = [float(parts[name]) for name in ("kl", "square", "cross")]
    assert found == pytest.approx([kl / 4, 5 * square / 4, cross / 4], rel=1e-5)


def test_a_trunk_that_has_not_moved_has_nothing_to_keep() -> None:
    weight = torch.randn(6, 6, generator=draws()).requires_grad_()
    inputs = random_features(4, 6, seed=2)
    now = F.normalize(inputs @ weight, dim=1)
    parts = retention(now, now.detach(), now[:, :3], now[:, :3].detach(), LABELS)
    (parts["kl"] + parts["square"]).backward()
    assert float((parts["kl"] + parts["square"]).detach()) == pytest.approx(0, abs=1e-6)
    assert weight.grad is not None
    assert float(weight.grad.abs().max()) < 1e-6


def test_instances_are_drawn_to_the_prototype_of_their_class() -> None:
    prototypes = torch.eye(3, 6)
    good = instance_alignment(prototypes[LABELS], LABELS, prototypes)
    bad = instance_alignment(prototypes[(LABELS + 1) % 3], LABELS, prototypes)
    assert float(good) < 0.01
    assert float(bad) > 5


def test_equal_distributions_are_aligned_and_moved_ones_are_not() -> None:
    features = random_features(50, 4)
    assert float(distribution_alignment(features, features.flip(0))) == pytest.approx(0, abs=1e-6)
    moved = float(distribution_alignment(features, features + torch.tensor([1.0, 0, 0, 0])))
    assert moved == pytest.approx(1.0, rel=1e-5)


def test_the_gate_starts_closed_and_opens() -> None:
    feature, branches = random_features(4, 6), [random_features(4, 6, seed=3)]
    aggregation = Aggregation(6, 2, draws())
    torch.testing.assert_close(aggregation(feature, [*branches, feature]), feature)
    with torch.no_grad():
        aggregation.gate.fill_(1.0)
    opened = aggregation(feature, [*branches, feature]).detach()
    assert float((opened - feature).abs().max()) > 0.05
    torch.testing.assert_close(opened.norm(dim=1), torch.ones(4))
