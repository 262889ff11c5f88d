r"""Gaussian discriminant analysis: classes as Gaussians with one full covariance.

$$w_k = \Sigma^{-1} \mu_k, \qquad b_k = \log \pi_k - \tfrac12 \mu_k^T \Sigma^{-1} \mu_k, \qquad
    \Sigma^{-1} = \Bigl(\hat\Sigma + \frac{\operatorname{tr} \hat\Sigma}{n - 1} I\Bigr)^{-1}$$

Reference: Wang et al. 2024, https://arxiv.org/abs/2402.04087, Eq. 4 to 6 and section 3.4. The paper
multiplies the precision by $d / (n - 1)$, and then the classifier by a weight that it chooses with
labels; here that weight is 1.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipcore.baselines.answers import answered
from clipcore.baselines.evidence import Answers, Evidence, Scores, scores_of
from clipcore.baselines.mixture import sizes_and_means, sum_of
from clipcore.head import Head

STEPS = 10


def discriminant(
    features: Float[Tensor, "images dim"],
    assigned: Float[Tensor, "images classes"],
    prior: Float[Tensor, " classes"],
) -> Head:
    """Return the linear classifier of Gaussians with one covariance.

    A class to which no image is assigned is as likely as the others are in the mean.

    Args:
        features: Of images.
        assigned: To which classes each belongs, and by how much.
        prior: How frequent the classes are.
    """
    sizes, means = sizes_and_means(features, assigned)
    precision = _precision(features, assigned, means)
    weights = means @ precision
    biases = prior.clamp(min=torch.finfo(prior.dtype).tiny).log() - (weights * means).sum(dim=1) / 2
    seen = sizes > torch.finfo(sizes.dtype).eps
    if bool(seen.any()):
        weights = torch.where(seen[:, None], weights, weights[seen].mean(dim=0))
        biases = torch.where(seen, biases, biases[seen].mean())
    return Head(weights, 1.0, biases)


def unsupervised_gda(evidence: Evidence, _seed: int, *, steps: int = STEPS) -> Scores:
    """Return zero-shot beside Gaussians that expectation maximisation finds from zero-shot on.

    Classes are taken to be equally frequent, as in the paper, which is a mistake where they are
    not.

    Args:
        evidence: What is known.
        steps: Of assignments and Gaussians in turn.
    """
    x, classes = evidence.pool, len(evidence.classes)
    assigned = evidence.zero_shot.probabilities(x)
    uniform = torch.full((classes,), 1 / classes)
    for _ in range(steps):
        gaussians = discriminant(x, assigned, uniform)
        assigned = gaussians.probabilities(x)
    return scores_of(_beside_zero_shot(gaussians, evidence, len(x)), evidence)


def few_shot_gda(evidence: Evidence, answers: Answers, _seed: int) -> Scores:
    """Return zero-shot beside Gaussians of the images that people labelled."""
    positions, labels = answered(answers)
    if not len(positions):
        return scores_of(evidence.zero_shot, evidence)
    classes = len(evidence.classes)
    assigned = F.one_hot(labels, classes).float()
    uniform = torch.full((classes,), 1 / classes)
    gaussians = discriminant(evidence.pool[positions], assigned, uniform)
    return scores_of(_beside_zero_shot(gaussians, evidence, len(positions)), evidence)


def _beside_zero_shot(gaussians: Head, evidence: Evidence, count: int) -> Head:
    """Return the sum of zero-shot and Gaussians, with the paper's factor of the precision."""
    return sum_of(evidence.zero_shot, gaussians, weight=evidence.pool.shape[1] / max(1, count - 1))


def _precision(
    features: Float[Tensor, "images dim"],
    assigned: Float[Tensor, "images classes"],
    means: Float[Tensor, "classes dim"],
) -> Float[Tensor, "dim dim"]:
    """Return the inverse of the covariance within classes, made safe by its trace."""
    x, z, mu = features.double(), assigned.double(), means.double()
    freedom = max(1, len(x) - 1)
    scatter = (x * z.sum(dim=1, keepdim=True)).T @ x - (mu * z.sum(dim=0)[:, None]).T @ mu
    covariance = scatter / freedom
    ridge = covariance.trace() / freedom + torch.finfo(features.dtype).eps
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    inverse: Tensor = torch.linalg.inv(covariance + ridge * identity)
    return inverse.to(features.dtype)
