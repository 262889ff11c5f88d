"""Gaussians with one diagonal covariance, against their densities written with loops."""

import pytest
import torch

from clipcore.baselines.mixture import (
    assign,
    at_least,
    gaussian_head,
    sizes_and_means,
    squared_distances,
    sum_of,
    ties,
)
from clipcore.head import Head
from tests.worlds.tensors import draws, random_features


def test_the_head_has_the_densities_up_to_a_number_for_each_image() -> None:
    features, means = random_features(7, 5), random_features(3, 5, seed=1)
    variances = 0.1 + torch.rand(5, generator=draws(2))
    densities = torch.zeros(7, 3)
    for i, x in enumerate(features):
        for k, mean in enumerate(means):
            for d in range(5):
                densities[i, k] -= (x[d] - mean[d]) ** 2 / (2 * variances[d])
    found = gaussian_head(means, variances).probabilities(features)
    torch.testing.assert_close(found, densities.softmax(dim=1))


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_logits_of_a_sum_are_the_sum_of_logits(weight: float) -> None:
    features = random_features(7, 5)
    one = Head(random_features(3, 5, seed=1), 20.0)
    two = Head(random_features(3, 5, seed=2), 3.0, torch.tensor([0.5, -1.0, 2.0]))
    expected = one.logits(features) + weight * two.logits(features)
    torch.testing.assert_close(sum_of(one, two, weight=weight).logits(features), expected)


def test_ties_are_symmetric_and_halved_where_one_side_alone_has_them() -> None:
    features = random_features(9, 4)
    expected = torch.zeros(9, 9)
    for i in range(9):
        cosines = {j: float(features[i] @ features[j]) for j in range(9) if j != i}
        for j in sorted(cosines, key=lambda j: -cosines[j])[:3]:
            expected[i, j] += max(0.0, cosines[j]) / 2
            expected[j, i] += max(0.0, cosines[j]) / 2
    torch.testing.assert_close(ties(features, k=3).to_dense(), expected)


def test_assignments_are_the_equation_with_a_dense_matrix() -> None:
    features, logits = random_features(9, 4), torch.randn(9, 3, generator=draws())
    graph = ties(features)
    start = logits.softmax(dim=1)
    expected = start.clone()
    for _ in range(5):
        previous = expected.clone()
        for i in range(9):
            heard = sum(graph.to_dense()[i, j] * previous[j] for j in range(9))
            expected[i] = (logits[i] + heard).softmax(dim=0)
    torch.testing.assert_close(assign(logits, graph, start), expected)


def test_sizes_means_and_spread_are_sums_over_images_and_classes() -> None:
    features, assigned = random_features(8, 4), torch.rand(8, 3, generator=draws())
    sizes, means = sizes_and_means(features, assigned)
    spread = torch.zeros(4)
    for k in range(3):
        size = sum(float(assigned[i, k]) for i in range(8))
        mean = sum(assigned[i, k] * features[i] for i in range(8)) / size
        torch.testing.assert_close(float(sizes[k]), size, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(means[k], mean)
        for i in range(8):
            spread += assigned[i, k] * (features[i] - mean) ** 2
    torch.testing.assert_close(squared_distances(features, assigned, means), spread)


def test_a_class_without_images_has_the_mean_zero() -> None:
    sizes, means = sizes_and_means(random_features(4, 3), torch.tensor([[1.0, 0.0]] * 4))
    assert float(sizes[1]) == 0
    assert torch.equal(means[1], torch.zeros(3))


def test_no_direction_decides_everything() -> None:
    assert float(at_least(torch.tensor([0.0, 1.0, 2.0, 3.0])).min()) == pytest.approx(1e-3 / 4)
