r"""InMaP: class proxies among the images, learned from zero-shot's refined pseudo-labels.

Zero-shot's probabilities are refined by Sinkhorn's iterations until every class has as many images
as any other, and those above a threshold become certain. The proxies minimise

$$\min_{W} \sum_i \text{KL}(p'_i \,\Vert\, \operatorname{softmax}(x_i^T w / \tau))$$

by gradient steps from the texts, each projected to the sphere; a step that made the gradient longer
halves the rate. It assumes balanced classes, and loses where they are not.

Reference: Qian et al. 2023, https://arxiv.org/abs/2310.19752, Eq. 9 and 10, with its defaults;
300 steps here instead of 2,000, after which the loss no longer falls.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipcore.baselines.evidence import Evidence, Scores, scores_of
from clipcore.head import Head

TEMPERATURE = 0.04
CERTAIN = 0.6
ROUNDS = 20
STEPS = 300
RATE = 10.0


def inmap(
    evidence: Evidence,
    _seed: int,
    *,
    temperature: float = TEMPERATURE,
    certain: float = CERTAIN,
    steps: int = STEPS,
) -> Scores:
    """Return what proxies among the images say.

    Args:
        evidence: What is known.
        temperature: Of images and proxies.
        certain: A larger probability becomes 1.
        steps: Of the gradient.
    """
    beliefs = balanced(evidence.zero_shot.probabilities(evidence.pool))
    best, labels = beliefs.max(dim=1)
    sure = F.one_hot(labels, len(evidence.classes)).float()
    targets = torch.where(best[:, None] > certain, sure, beliefs)
    proxies = _proxies(evidence.pool, targets, evidence.text, temperature, steps)
    return scores_of(Head(proxies, 1 / temperature), evidence, num_parameters=proxies.numel())


def balanced(
    probabilities: Float[Tensor, "images classes"], *, rounds: int = ROUNDS
) -> Float[Tensor, "images classes"]:
    """Return probabilities of which every class has the same sum, nearly; each row sums to 1.

    Reference: Cuturi 2013, Sinkhorn distances, https://arxiv.org/abs/1306.0895.
    """
    found = probabilities
    images, classes = probabilities.shape
    tiny = torch.finfo(found.dtype).tiny
    for _ in range(rounds):
        found = found * (images / classes / found.sum(dim=0).clamp(min=tiny))
        found = found / found.sum(dim=1, keepdim=True).clamp(min=tiny)
    return found


def _proxies(
    features: Float[Tensor, "images dim"],
    targets: Float[Tensor, "images classes"],
    start: Float[Tensor, "classes dim"],
    temperature: float,
    steps: int,
) -> Float[Tensor, "classes dim"]:
    proxies, rate, before = start, RATE, torch.inf
    pull = targets.T @ features
    for _ in range(steps):
        push = (features @ proxies.T / temperature).softmax(dim=1).T @ features
        gradient = push - pull
        length = float(gradient.norm())
        if length > before:
            rate /= 2
        before = length
        step = rate / (len(features) * temperature)
        proxies = F.normalize(proxies - step * gradient, dim=1)
    return proxies
