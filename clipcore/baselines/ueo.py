"""Universal entropy optimisation: sure about the confident images, undecided about the others."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipcore.baselines.context import (
    LEARNING_RATE,
    NUM_CONTEXT_TOKENS,
    STEPS,
    learn_context,
)
from clipcore.baselines.evidence import Evidence, Scores, scores_of
from clipcore.head import Head
from clipcore.seeding import generator


def entropy(p: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch"]:
    r"""Return $H(p) = -\sum_k p_k \log p_k$ in nats."""
    terms: Tensor = torch.special.entr(p.clamp(min=torch.finfo(p.dtype).tiny))
    return terms.sum(dim=-1)


def universal_entropy(
    p: Float[Tensor, "batch classes"], confidence: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    r"""Return $\sum_i \tilde w_i H(p_i) - H(\sum_i \tilde v_i p_i)$.

    $\tilde w_i = w_i / \sum_j w_j$ and $\tilde v_i = w_i^{-1} / \sum_j w_j^{-1}$ of confidences
    $w$: the first term makes confident predictions surer, the second spreads the others over the
    classes. Both are of one batch.

    Reference: https://arxiv.org/abs/2308.12919, section 3.3.
    """
    weight, inverse = confidence, 1 / confidence
    sure = (weight / weight.sum()) @ entropy(p)
    return sure - entropy((inverse / inverse.sum()) @ p)


def ueo(
    evidence: Evidence,
    seed: int,
    *,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    affine: bool = True,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
) -> Scores:
    r"""Return the scores of words and an affine map that minimise `universal_entropy`.

    The weights are zero-shot's confidences, which stay. The paper also learns the affine parameters
    of the norms within the image tower. On frozen features their like is one map of the channels,
    $\gamma \circ x + \beta$, which is not normalised again: $s\,(\gamma \circ x + \beta)^T t_k =
    s\, x^T (\gamma \circ t_k) + s\,\beta^T t_k$ is then a linear head with a bias.

    Args:
        evidence: What is seen.
        seed: Of the first words and of the order of the images.
        steps: How long.
        learning_rate: Of AdamW, for the words and the map.
        affine: Whether the map learns.
        num_context_tokens: Learned words before a class name.
    """
    pool, scale = evidence.pool, evidence.logit_scale
    confidence = evidence.zero_shot.predict(pool)[1]
    gamma = nn.Parameter(torch.ones_like(pool[0]), requires_grad=affine)
    beta = nn.Parameter(torch.zeros_like(pool[0]), requires_grad=affine)

    def head_of(embeddings: Tensor) -> Head:
        return Head(gamma * embeddings, scale, scale * embeddings @ beta)

    words = learn_context(
        evidence,
        lambda embeddings, rows: universal_entropy(
            head_of(embeddings).probabilities(pool[rows]), confidence[rows]
        ),
        len(pool),
        draws=generator(seed, "ueo", "words"),
        seed=seed,
        steps=steps,
        num_context_tokens=num_context_tokens,
        learning_rate=learning_rate,
        beside=[gamma, beta] if affine else [],
    )
    with torch.no_grad():
        head = head_of(words.embeddings)
    num_parameters = words.num_parameters + (2 * gamma.numel() if affine else 0)
    return scores_of(head, evidence, num_parameters=num_parameters)
