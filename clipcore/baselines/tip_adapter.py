r"""Tip-Adapter: a cache of answered images beside zero-shot, with keys that stay or learn.

$$\text{logits}(x) = s\, x^T T + \alpha \sum_i \exp(-\beta (1 - x^T f_i))\, \text{onehot}(y_i)$$

with $f_i$ the feature of the answered image $i$ and $T$ zero-shot's embeddings.

Reference: https://arxiv.org/abs/2111.03930, Eq. 3 to 6. The paper searches $\alpha$ and $\beta$ on
a validation set; here the answers choose, each asked with itself left out of the cache.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from clipcore.baselines.answers import answered
from clipcore.baselines.evidence import Answers, Evidence, Scores, Taught
from clipcore.fit import Schedule, TrainingSet, fit, loader
from clipcore.head import Head

ALPHA, BETA = 1.0, 5.5  # the paper's, on ImageNet
ALPHAS = (0.0, 0.3, 1.0, 3.0, 10.0)
BETAS = (1.0, 3.0, 5.5, 10.0, 20.0)
BLOCK = 1024  # images at once: the cache may be as large as the pool


class Cache(NamedTuple):
    """Keys and what stands under them."""

    keys: Float[Tensor, "answers dim"]
    labels: Int[Tensor, " answers"]
    num_classes: int

    def votes(
        self,
        features: Float[Tensor, "samples dim"],
        beta: float,
        *,
        but: Int[Tensor, " samples"] | None = None,
    ) -> Float[Tensor, "samples classes"]:
        """Return the affinity to the keys of each class, summed.

        Args:
            features: Normalised.
            beta: How fast the affinity falls with the distance.
            but: Of each image the key that is left out.
        """
        affinity = torch.exp(-beta * (1 - features @ self.keys.T))
        if but is not None:
            affinity[torch.arange(len(but)), but] = 0
        return affinity @ F.one_hot(self.labels, self.num_classes).to(affinity.dtype)


def tip_adapter(
    evidence: Evidence,
    answers: Answers,
    _seed: int,
    *,
    alpha: float | None = None,
    beta: float | None = None,
) -> Scores:
    r"""Return zero-shot with the votes of answered images; nothing is trained.

    Args:
        evidence: What is seen.
        answers: What is known; without any the scores are zero-shot's.
        alpha: $\alpha$; by default chosen with $\beta$ by `choose`.
        beta: $\beta$.
    """
    cache = _cache(evidence, answered(answers))
    chosen = choose(cache, evidence.zero_shot)
    return _scores(evidence, cache, chosen.override(alpha, beta))


class Strength(NamedTuple):
    r"""$\alpha$ and $\beta$."""

    alpha: float
    beta: float

    def override(self, alpha: float | None, beta: float | None) -> "Strength":
        """Return these, where none are given."""
        return Strength(self.alpha if alpha is None else alpha, self.beta if beta is None else beta)


def tip_adapter_f(  # noqa: PLR0913  # what tests vary
    evidence: Evidence,
    answers: Answers,
    seed: int,
    *,
    alpha: float | None = None,
    beta: float | None = None,
    epochs: int = 20,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
) -> Scores:
    r"""Return `tip_adapter` whose keys have learned, with the answers as images and as labels.

    Only the keys learn; their labels and zero-shot stay. The numbers are the paper's, section 4.1.
    With $\alpha = 0$ nothing could learn, so the answers choose among the other values.

    Args:
        evidence: What is seen.
        answers: What is known; without any the scores are zero-shot's.
        seed: Of the order of the answers.
        alpha: As in `tip_adapter`.
        beta: As in `tip_adapter`.
        epochs: Passes over the answers.
        batch_size: Answers of a step.
        learning_rate: Of AdamW.
    """
    taught = answered(answers)
    cache = _cache(evidence, taught)
    chosen = choose(cache, evidence.zero_shot, alphas=ALPHAS[1:]).override(alpha, beta)
    if not len(taught.positions):
        return _scores(evidence, cache, chosen)
    keys = cache.keys.clone().requires_grad_()
    zero_shot = evidence.zero_shot.logits(cache.keys)

    def terms(rows: Tensor, labels: Tensor, _draws: Generator) -> dict[str, Tensor]:
        votes = cache._replace(keys=keys).votes(cache.keys[rows], chosen.beta)
        return {"loss": F.cross_entropy(zero_shot[rows] + chosen.alpha * votes, labels)}

    data = TrainingSet(taught.labels, loader(lambda rows: rows))
    schedule = Schedule(epochs=epochs, batch_size=batch_size, seed=seed, stream="tip-adapter-f")
    optimizer = torch.optim.AdamW([keys], learning_rate, eps=1e-4)
    list(fit(optimizer, terms, data, schedule, epochs=range(epochs)))
    learned = cache._replace(keys=keys.detach())
    return _scores(evidence, learned, chosen, num_parameters=keys.numel())


def choose(cache: Cache, zero_shot: Head, *, alphas: Sequence[float] = ALPHAS) -> Strength:
    """Return what does best on answers that are each left out of the cache.

    Asked are those whose class has another answer: one that is alone could but be lost. Where
    there is none the paper's values are taken; of equals those that are nearest to zero-shot.
    """
    counts = torch.bincount(cache.labels, minlength=cache.num_classes)
    asked = torch.nonzero(counts[cache.labels] > 1).flatten()
    if not len(asked):
        return Strength(ALPHA, BETA)
    logits = zero_shot.logits(cache.keys)
    right = {Strength(alpha, beta): 0 for alpha in alphas for beta in BETAS}
    for rows in asked.split(BLOCK):
        for beta in BETAS:
            votes = cache.votes(cache.keys[rows], beta, but=rows)
            for alpha in alphas:
                found = (logits[rows] + alpha * votes).argmax(dim=1) == cache.labels[rows]
                right[Strength(alpha, beta)] += int(found.sum())
    return max(right, key=lambda strength: right[strength])


def _cache(evidence: Evidence, taught: Taught) -> Cache:
    return Cache(evidence.pool[taught.positions], taught.labels, len(evidence.classes))


def _scores(
    evidence: Evidence, cache: Cache, strength: Strength, *, num_parameters: int = 0
) -> Scores:
    """Return the softmax of zero-shot's logits and the votes."""

    def ask(features: Float[Tensor, "samples dim"]) -> Float[Tensor, "samples classes"]:
        logits = [
            evidence.zero_shot.logits(block) + strength.alpha * cache.votes(block, strength.beta)
            for block in features.split(BLOCK)
        ]
        return torch.cat(logits).softmax(dim=1)

    head = None if len(cache.keys) else evidence.zero_shot
    return Scores(ask(evidence.pool), ask(evidence.test), head, num_parameters=num_parameters)
