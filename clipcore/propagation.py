r"""Labels that neighbours agree on: label propagation over a graph of nearest neighbours.

A wrong label among images that look alike is outvoted. No matrix of all pairs is ever made: the
search holds cosines of `BLOCK_BYTES`, and the graph of $n$ images takes at most $40 k n$ bytes for
each set of features (10 neighbours, a million images, two sets: 0.8 GB, and about as much again
while it is made).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEIGHBOURS, STEPS, ALPHA = 10, 15, 0.9
BLOCK_BYTES = 64 * 2**20


def fitting_k(num_samples: int, num_classes: int, *, most: int = NEIGHBOURS) -> int:
    """Return how many neighbours to listen to: at most half of what a class has on average.

    Among more of them most would be of other classes, however well the features tell them apart.
    """
    return max(1, min(most, num_samples // (2 * num_classes)))


def nearest(
    features: Float[Tensor, "samples dim"], *, k: int
) -> tuple[Float[Tensor, "samples k"], Int[Tensor, "samples k"]]:
    """Return cosines and positions of the `k` nearest other samples of each one, best first.

    Args:
        features: Normalised.
        k: Fewer where there are not as many others.
    """
    count = len(features)
    k = min(k, max(0, count - 1))
    rows = max(1, BLOCK_BYTES // (4 * max(1, count)))
    found = []
    for start in range(0, count, rows):
        cosines = features[start : start + rows] @ features.T
        own = torch.arange(len(cosines), device=features.device)
        cosines[own, start + own] = -torch.inf
        found.append(cosines.topk(k, dim=1))
    if not found:
        return features.new_zeros(0, 0), torch.zeros(0, 0, dtype=torch.long)
    return torch.cat([best.values for best in found]), torch.cat([best.indices for best in found])


def affinity_graph(feature_sets: Sequence[Float[Tensor, "samples dim"]], *, k: int) -> Tensor:
    r"""Return $S = D^{-1/2} W D^{-1/2}$, sparse, of the mean affinity over all sets of features.

    $$W = \frac1V \sum_v A_v + A_v^T,\quad A_{v,ij} = [\cos_{v,ij}]_+
        \text{ where } j \text{ is among the } k \text{ nearest of } i$$

    and $D$ has the sums of its rows. A sample without any neighbour has a row of zeros.

    Args:
        feature_sets: The same samples as one or several towers see them, normalised.
        k: Neighbours of a sample in each set.
    """
    count = len(feature_sets[0])
    pairs, values = [], []
    for features in feature_sets:
        cosines, others = nearest(features.float(), k=k)
        own = torch.arange(count, device=others.device)[:, None].expand_as(others)
        one_way = torch.stack([own.flatten(), others.flatten()])
        pairs += [one_way, one_way.flip(0)]
        values += 2 * [cosines.flatten().clamp(min=0) / len(feature_sets)]
    return normalized_graph(torch.cat(pairs, dim=1), torch.cat(values), count)


def normalized_graph(
    pairs: Int[Tensor, "2 edges"], weights: Float[Tensor, " edges"], count: int
) -> Tensor:
    r"""Return $D^{-1/2} W D^{-1/2}$, sparse; $D$ has the sums of the rows of $W$.

    A node without any edge has a row of zeros.

    Args:
        pairs: From which node to which; both ways of an edge, if it has two.
        weights: At least 0. Those of equal pairs are added.
        count: Nodes.
    """
    graph = sparse(pairs, weights, count)
    degree = graph.sum(dim=1).to_dense()
    scale = torch.where(degree > 0, degree, 1).rsqrt()
    one, two = graph.indices()
    return sparse(graph.indices(), graph.values() * scale[one] * scale[two], count)


def propagate(
    posteriors: Float[Tensor, "samples classes"],
    graph: Tensor,
    *,
    steps: int = STEPS,
    alpha: float = ALPHA,
) -> Float[Tensor, "samples classes"]:
    r"""Return posteriors that neighbours have spread over the graph; each row sums to 1.

    $$P_{t+1} = \alpha S P_t + (1 - \alpha) P_0$$

    Reference: Zhou et al. 2004, Learning with local and global consistency, section 2.

    Args:
        posteriors: $P_0$, class probabilities of each sample.
        graph: $S$ of `affinity_graph`.
        steps: How far a label travels.
        alpha: How much neighbours count beside the sample's own posterior.
    """
    spread = posteriors
    for _ in range(steps):
        spread = alpha * torch.sparse.mm(graph, spread) + (1 - alpha) * posteriors
    return spread / spread.sum(dim=1, keepdim=True)


def join_graph(  # a sample outside, and what the graph knows
    posteriors: Float[Tensor, "others classes"],
    feature_sets: Sequence[Float[Tensor, "others dim"]],
    spread: Float[Tensor, "samples classes"],
    known_sets: Sequence[Float[Tensor, "samples dim"]],
    *,
    k: int,
    alpha: float = ALPHA,
) -> Float[Tensor, "others classes"]:
    r"""Return posteriors of samples outside of a graph, which listen to the nearest ones in it.

    $$P_i = \alpha \frac{\sum_j w_{ij} P_j}{\sum_j w_{ij}} + (1 - \alpha) P_{0,i},\quad
        w_{ij} = \frac1V \sum_v [\cos_{v,ij}]_+ \text{ where } j \text{ is among the nearest}$$

    A sample that is near to none keeps its posterior.

    Args:
        posteriors: $P_0$ of the samples outside.
        feature_sets: They as one or several towers see them, normalised.
        spread: What `propagate` returned for the samples of the graph.
        known_sets: Those as the same towers see them.
        k: Neighbours of a sample in each set.
        alpha: How much neighbours count beside the sample's own posterior.
    """
    heard = torch.zeros_like(posteriors)
    weight = posteriors.new_zeros(len(posteriors), 1)
    for features, known in zip(feature_sets, known_sets, strict=True):
        rows = max(1, BLOCK_BYTES // (4 * max(1, len(known))))
        for start in range(0, len(features), rows):
            block = slice(start, start + rows)
            best = (features[block] @ known.T).topk(min(k, len(known)), dim=1)
            near = best.values.clamp(min=0)
            heard[block] += torch.einsum("nk,nkc->nc", near, spread[best.indices])
            weight[block] += near.sum(dim=1, keepdim=True)
    mixed = alpha * heard / weight.clamp(min=torch.finfo(weight.dtype).tiny)
    return torch.where(weight > 0, mixed + (1 - alpha) * posteriors, posteriors)


def sparse(pairs: Int[Tensor, "2 edges"], weights: Float[Tensor, " edges"], count: int) -> Tensor:
    """Return a sparse matrix of edges, coalesced: the weights of equal pairs are added."""
    shape = (count, count)
    return torch.sparse_coo_tensor(pairs, weights, shape, check_invariants=True).coalesce()
