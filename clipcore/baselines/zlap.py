r"""ZLaP: label propagation over one graph of class sentences and images.

Images are tied to their nearest images by the cosine, and to their nearest classes by
$\cos^\gamma$, which makes both kinds of edges comparable. With $W$ the sum of the edges both ways,
each class spreads from its own node:

$$Z = (I - \alpha D^{-1/2} W D^{-1/2})^{-1} Y$$

An image outside of the graph gets the same by its own edges, $z(x) = \sum_j w_{xj} Z_j$.

Reference: Stojnić et al. 2024, https://arxiv.org/abs/2404.04072, section 4; k, gamma and alpha are
those of its public code, which counts an image among its own k neighbours. Here there are k others.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.baselines.evidence import Evidence, Scores
from clipcore.propagation import nearest, normalized_graph

NEIGHBOURS, GAMMA, ALPHA = 5, 5.0, 0.3
PRECISION = 1e-7  # of the series that stands for the inverse


def zlap(
    evidence: Evidence,
    _seed: int,
    *,
    k: int = NEIGHBOURS,
    gamma: float = GAMMA,
    alpha: float = ALPHA,
) -> Scores:
    """Return the shares of what each class spreads to an image.

    An image that nothing reaches has zero-shot's probabilities.

    Args:
        evidence: What is known.
        k: Nearest images, and nearest classes, of an image.
        gamma: Power of the cosine of an image and a class.
        alpha: How much is passed on at each edge.
    """
    classes = len(evidence.classes)
    spread = _solve(_graph(evidence, k=k, gamma=gamma), classes, alpha)
    cosines, others = (evidence.test @ evidence.pool.T).topk(min(k, len(evidence.pool)), dim=1)
    heard = torch.einsum("nk,nkc->nc", cosines.clamp(min=0), spread[classes + others])
    weights, near = _to_classes(evidence.test, evidence.text, k=k, gamma=gamma)
    heard += torch.einsum("nk,nkc->nc", weights, spread[near])
    return Scores(
        pool=_shares(spread[classes:], evidence.zero_shot.probabilities(evidence.pool)),
        test=_shares(heard, evidence.zero_shot.probabilities(evidence.test)),
    )


def _graph(evidence: Evidence, *, k: int, gamma: float) -> Tensor:
    """Return the normalised graph; classes come first, images after them."""
    classes = len(evidence.classes)
    cosines, others = nearest(evidence.pool, k=k)
    weights, near = _to_classes(evidence.pool, evidence.text, k=k, gamma=gamma)
    ends = torch.cat([classes + others, near], dim=1)
    own = classes + torch.arange(len(evidence.pool))[:, None].expand_as(ends)
    one_way = torch.stack([own.flatten(), ends.flatten()])
    values = torch.cat([cosines.clamp(min=0), weights], dim=1).flatten()
    both_ways = torch.cat([one_way, one_way.flip(0)], dim=1)
    return normalized_graph(both_ways, values.repeat(2), classes + len(evidence.pool))


def _to_classes(
    features: Float[Tensor, "images dim"],
    text: Float[Tensor, "classes dim"],
    *,
    k: int,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """Return the edges from images to their nearest classes: weights, and which classes."""
    best = (features @ text.T).topk(min(k, len(text)), dim=1)
    return best.values.clamp(min=0) ** gamma, best.indices


def _solve(graph: Tensor, classes: int, alpha: float) -> Float[Tensor, "nodes classes"]:
    """Return the columns of the inverse that belong to classes, by its geometric series."""
    start = torch.eye(graph.shape[0], classes)
    spread = start
    for _ in range(math.ceil(math.log(PRECISION) / math.log(alpha))):
        spread = alpha * torch.sparse.mm(graph, spread) + start
    return spread


def _shares(
    spread: Float[Tensor, "images classes"], otherwise: Float[Tensor, "images classes"]
) -> Float[Tensor, "images classes"]:
    total = spread.sum(dim=1, keepdim=True)
    reached = total > torch.finfo(total.dtype).tiny
    return torch.where(reached, spread / total.where(reached, torch.ones(())), otherwise)
