r"""TransCLIP: images are assigned together, by Gaussians, neighbours and what CLIP believes.

$$\min_{z, \mu, \Sigma} -\frac1n \sum_i z_i^T \log p_i - \sum_{ij} w_{ij} z_i^T z_j
    + \sum_i z_i^T \log z_i - \lambda z_i^T \log \hat y_i$$

in turn over assignments, means and variances (`mixture`). Means begin at the images that zero-shot
is surest of in each class, as many in every class: where classes are absent, that is a mistake.

Reference: Zanella et al. 2024, https://arxiv.org/abs/2406.01837, Eq. 1 to 11, zero-shot setting.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.baselines.evidence import Evidence, Scores
from clipcore.baselines.mixture import (
    assign,
    at_least,
    gaussian_head,
    sizes_and_means,
    squared_distances,
    sum_of,
    ties,
)

SUREST = 8  # of each class, whose mean begins
STEPS = 10
LAMBDA = 1.0


def transclip(
    evidence: Evidence,
    _seed: int,
    *,
    surest: int = SUREST,
    steps: int = STEPS,
    weight: float = LAMBDA,
) -> Scores:
    r"""Return the assignments, and for other images what Gaussians and zero-shot say of them.

    Args:
        evidence: What is known.
        surest: Images of each class whose mean begins.
        steps: Of assignments, means and variances in turn.
        weight: $\lambda$, of what CLIP believes.
    """
    x, zero_shot = evidence.pool, evidence.zero_shot
    beliefs = zero_shot.probabilities(x)
    graph, assigned = ties(x), beliefs
    means = _means_of_surest(x, beliefs, surest)
    variances = torch.full((x.shape[1],), 1 / x.shape[1])
    for _ in range(steps):
        logits = weight * zero_shot.logits(x) + gaussian_head(means, variances).logits(x)
        assigned = assign(logits, graph, assigned)
        sizes, found = sizes_and_means(x, assigned)
        means = torch.where(sizes[:, None] > 0, found, means)
        variances = at_least(squared_distances(x, assigned, means) / len(x))
    head = sum_of(gaussian_head(means, variances), zero_shot, weight=weight)
    return Scores(pool=assigned, test=head.probabilities(evidence.test), head=head)


def _means_of_surest(
    features: Float[Tensor, "images dim"], beliefs: Float[Tensor, "images classes"], count: int
) -> Float[Tensor, "classes dim"]:
    best = beliefs.topk(min(count, len(beliefs)), dim=0).indices
    return features[best.T].mean(dim=1)
