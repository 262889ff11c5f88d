"""Gaussian discriminant analysis, against densities and against scikit-learn's."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from clipcore.baselines.gda import discriminant, few_shot_gda, unsupervised_gda
from tests.worlds.evidence import evidence, few_answers, share_right, true_labels


def posterior_with_loops(features: Tensor, assigned: Tensor, prior: Tensor) -> Tensor:
    """Return the posterior of Gaussians with one full covariance, image by image."""
    x, z = features.double(), assigned.double()
    count, dim = x.shape
    means = [sum(z[i, k] * x[i] for i in range(count)) / z[:, k].sum() for k in range(z.shape[1])]
    covariance = torch.zeros(dim, dim, dtype=torch.float64)
    for i in range(count):
        for k, mean in enumerate(means):
            covariance += z[i, k] * torch.outer(x[i] - mean, x[i] - mean) / (count - 1)
    covariance += covariance.trace() / (count - 1) * torch.eye(dim, dtype=torch.float64)
    inverse = torch.linalg.inv(covariance)
    logits = [
        [
            float(prior[k].log() - (one - mean) @ inverse @ (one - mean) / 2)
            for k, mean in enumerate(means)
        ]
        for one in x
    ]
    return torch.tensor(logits).softmax(dim=1)


def test_the_head_is_bayes_rule_with_one_covariance() -> None:
    given = evidence(classes=3, per_class=30)
    assigned = given.zero_shot.probabilities(given.pool)
    prior = torch.tensor([0.5, 0.2, 0.3])
    found = discriminant(given.pool, assigned, prior).probabilities(given.pool)
    expected = posterior_with_loops(given.pool, assigned, prior)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_with_many_images_it_is_linear_discriminant_analysis() -> None:
    given = evidence(classes=3, per_class=400, spread=1.5)
    labels = true_labels(3, 400)
    hard = F.one_hot(labels, 3).float()
    found = discriminant(given.pool, hard, torch.full((3,), 1 / 3)).predict(given.pool)[0]
    known = LinearDiscriminantAnalysis(solver="lsqr").fit(given.pool.numpy(), labels.numpy())
    expected = torch.from_numpy(known.predict(given.pool.numpy()))
    assert float((found == expected).float().mean()) > 0.99


def test_a_class_without_images_is_as_likely_as_the_mean_of_the_others() -> None:
    given = evidence(classes=3, per_class=10)
    hard = F.one_hot(true_labels(3, 10), 4).float()
    logits = discriminant(given.pool, hard, torch.full((4,), 0.25)).logits(given.pool)
    torch.testing.assert_close(logits[:, 3], logits[:, :3].mean(dim=1), atol=1e-3, rtol=1e-3)


def test_without_answers_it_is_zero_shot() -> None:
    given = evidence()
    nobody = torch.full((len(given.pool),), -1)
    expected = given.zero_shot.probabilities(given.test)
    torch.testing.assert_close(few_shot_gda(given, nobody, 0).test, expected)


@pytest.mark.parametrize("shots", [4, 16])
def test_answers_gain_over_zero_shot(shots: int) -> None:
    given = evidence(classes=4, per_class=50, spread=0.9, gap=1.5, test=200, seed=3)
    answers, labels = few_answers(given, true_labels(4, 50), shots), torch.arange(200) % 4
    before = share_right(given.zero_shot.probabilities(given.test), labels)
    assert share_right(few_shot_gda(given, answers, 0).test, labels) > before


def test_expectation_maximisation_gains_where_texts_are_off() -> None:
    given = evidence(classes=4, per_class=100, spread=0.9, gap=1.5, seed=3)
    labels = true_labels(4, 100)
    before = share_right(given.zero_shot.probabilities(given.pool), labels)
    assert share_right(unsupervised_gda(given, 0).pool, labels) > before
