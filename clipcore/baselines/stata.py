r"""StatA: as TransCLIP, with Gaussians that are anchored at what the class sentences say.

A Kullback-Leibler divergence from each class's Gaussian to that of its text, weighed by $\alpha$,
is what $\alpha$ images at the text would be. A class without images stays at its text:

$$\mu_k = \beta_k \bar x_k + (1 - \beta_k) t_k, \qquad \beta_k = \frac{n_k}{n_k + \alpha}, \qquad
    \Sigma = \frac{\sum_{ik} z_{ik} (x_i - \mu_k)^2
    + \alpha \sum_k \Sigma' + (\mu_k - t_k)^2}{n + \alpha K}$$

where $n_k = \sum_i z_{ik}$ and $\Sigma'$ is how zero-shot's images spread around their texts.

Reference: Zanella et al. 2025, https://arxiv.org/abs/2501.03729, section 4. One covariance for all
classes is our reading: it is the minimum of the same objective, and makes the classifier linear.
"""

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
from clipcore.head import Head

ALPHA = 1.0
STEPS = 10


def stata(evidence: Evidence, _seed: int, *, alpha: float = ALPHA, steps: int = STEPS) -> Scores:
    r"""Return the assignments, and for other images what Gaussians and zero-shot say of them.

    Args:
        evidence: What is known.
        alpha: How many images the text of a class is worth.
        steps: Of assignments and Gaussians in turn.
    """
    logits = evidence.zero_shot.logits(evidence.pool)
    assigned, gaussians = anchored(evidence, logits, alpha=alpha, steps=steps)
    head = sum_of(gaussians, evidence.zero_shot)
    return Scores(pool=assigned, test=head.probabilities(evidence.test), head=head)


def anchored(
    evidence: Evidence,
    log_beliefs: Float[Tensor, "pool classes"],
    *,
    alpha: float = ALPHA,
    power: float = 1.0,
    steps: int = STEPS,
) -> tuple[Float[Tensor, "pool classes"], Head]:
    """Return the assignments of the pool, and its Gaussians as a head, to the same power.

    Args:
        evidence: What is known.
        log_beliefs: Logarithms of what is believed of each image, up to a number for each image.
        alpha: How many images the text of a class is worth.
        power: Of the densities; see `mixture.gaussian_head`.
        steps: Of assignments and Gaussians in turn.
    """
    x, text = evidence.pool, evidence.text
    graph, assigned = ties(x), log_beliefs.softmax(dim=1)
    around_texts = at_least(squared_distances(x, assigned, text) / len(x))
    means, variances = text, around_texts
    for _ in range(steps):
        logits = log_beliefs + gaussian_head(means, variances, power=power).logits(x)
        assigned = assign(logits, graph, assigned)
        sizes, found = sizes_and_means(x, assigned)
        share = (sizes / (sizes + alpha))[:, None]
        means = share * found + (1 - share) * text
        anchor = len(text) * around_texts + (means - text).square().sum(dim=0)
        spread = squared_distances(x, assigned, means) + alpha * anchor
        variances = at_least(spread / (len(x) + alpha * len(text)))
    return assigned, gaussian_head(means, variances, power=power)
