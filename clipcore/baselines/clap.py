"""CLAP: a linear probe whose class prototypes are held near their texts, each class as it needs."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipcore.baselines.answers import answered
from clipcore.baselines.evidence import Answers, Evidence, Scores, Taught, scores_of
from clipcore.head import Head

ITERATIONS = 100  # of L-BFGS


def multipliers(zero_shot: Head, x: Float[Tensor, "answers dim"], taught: Taught) -> Tensor:
    r"""Return $\lambda_k = \frac1{|B_k|} \sum_{i \in B_k} p_k(x_i)$ of zero-shot's probabilities.

    $B_k$ are the answers of class $k$, which is our reading: a class that zero-shot knows well is
    held fast, one that it does not know is let go. A class without any answer has 1: nothing is
    known that would move it.
    """
    own = zero_shot.probabilities(x).gather(1, taught.labels[:, None])[:, 0]
    num_classes = len(zero_shot.embeddings)
    counts = torch.bincount(taught.labels, minlength=num_classes)
    sums = torch.zeros(num_classes).index_add(0, taught.labels, own)
    return torch.where(counts > 0, sums / counts.clamp(min=1), 1.0)


def objective(
    weights: Float[Tensor, "classes dim"],
    zero_shot: Head,
    x: Float[Tensor, "answers dim"],
    taught: Taught,
    penalties: Float[Tensor, " classes"],
) -> Float[Tensor, ""]:
    r"""Return the cross-entropy of the answers and the penalty for leaving the texts.

    $$-\frac1N \sum_i \log\operatorname{softmax}_k(s\, x_i^T w_k / \lVert w_k \rVert)_{y_i}
        + \sum_k \lambda_k \lVert w_k - t_k \rVert^2$$
    """
    logits = Head(F.normalize(weights, dim=1), zero_shot.logit_scale).logits(x)
    distance = (weights - zero_shot.embeddings).square().sum(dim=1)
    return F.cross_entropy(logits, taught.labels) + (penalties * distance).sum()


def clap(
    evidence: Evidence,
    answers: Answers,
    _seed: int,
    *,
    strength: float = 1.0,
    iterations: int = ITERATIONS,
) -> Scores:
    r"""Return the prototypes that minimise `objective`, with $\lambda_k$ of `multipliers`.

    They begin as zero-shot's. The paper starts an augmented Lagrangian method with these
    multipliers and finds that one outer step is enough, so that they stay.

    Reference: https://arxiv.org/abs/2312.12730, section 4. The paper trains 300 epochs of SGD on
    views of the answers; here L-BFGS goes down the same loss on their features, with no draws.

    Args:
        evidence: What is seen.
        answers: What is known; without any the scores are zero-shot's.
        strength: Factor of all $\lambda_k$.
        iterations: Of L-BFGS, at most.
    """
    zero_shot, taught = evidence.zero_shot, answered(answers)
    if not len(taught.positions):
        return scores_of(zero_shot, evidence)
    x = evidence.pool[taught.positions]
    penalties = strength * multipliers(zero_shot, x, taught)
    weights = evidence.text.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(weights, zero_shot, x, taught, penalties)
        loss.backward()
        return loss

    optimizer.step(closure)
    head = Head(F.normalize(weights.detach(), dim=1), evidence.logit_scale)
    return scores_of(head, evidence, num_parameters=weights.numel())
