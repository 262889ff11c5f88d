"""Clusters and neighbours of normalised features, decided by the features and the draws alone."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

ITERATIONS = 25
ROWS = 1024  # of similarities at once: memory grows with the samples, not with their square


def cluster(
    features: Float[Tensor, "samples dim"],
    num_clusters: int,
    draws: Generator,
    *,
    weights: Float[Tensor, " samples"] | None = None,
) -> Int[Tensor, " samples"]:
    """Return each sample's cluster by spherical k-means, seeded as k-means++.

    Weighted samples pull their centre in proportion; a cluster may end up empty.
    """
    x = features.double()
    w = torch.ones(len(x), dtype=torch.double) if weights is None else weights.double()
    centres = x[_seeds(x, w, num_clusters, draws)]
    assigned = torch.full((len(x),), -1)
    for _ in range(ITERATIONS):
        now = torch.cat([(part @ centres.T).argmax(dim=1) for part in x.split(ROWS)])
        if torch.equal(now, assigned):
            break
        assigned = now
        sums = torch.zeros_like(centres).index_add_(0, assigned, w[:, None] * x)
        moved = sums.norm(dim=1) > 0
        centres[moved] = F.normalize(sums[moved])
    return assigned


def nearest_similarity(
    features: Float[Tensor, "samples dim"], others: Float[Tensor, "others dim"]
) -> Float[Tensor, " samples"]:
    """Return the cosine with the nearest of the others; minus infinity when there are none."""
    if not len(others):
        return torch.full((len(features),), -torch.inf, dtype=features.dtype)
    return torch.cat([(part @ others.T).amax(dim=1) for part in features.split(ROWS)])


def neighbours_mean(
    features: Float[Tensor, "samples dim"], values: Float[Tensor, " samples"], count: int
) -> Float[Tensor, " samples"]:
    """Return the mean value of each sample's nearest neighbours, itself left out."""
    count = min(count, len(features) - 1)
    if count < 1:
        return values.clone()
    means = []
    for start in range(0, len(features), ROWS):
        part = features[start : start + ROWS]
        similar = part @ features.T
        similar[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf
        means.append(values[similar.topk(count, dim=1).indices].mean(dim=1))
    return torch.cat(means)


def others_mean(
    features: Float[Tensor, "samples dim"],
    others: Float[Tensor, "others dim"],
    values: Float[Tensor, " others"],
    count: int,
) -> Float[Tensor, " samples"]:
    """Return the mean value of the others that are nearest to each sample; 0 if there are none."""
    count = min(count, len(others))
    if not count:
        return values.new_zeros(len(features))
    means = [
        values[(part @ others.T).topk(count, dim=1).indices].mean(dim=1)
        for part in features.split(ROWS)
    ]
    return torch.cat(means)


def nearest_mean_similarity(
    features: Float[Tensor, "samples dim"], count: int
) -> Float[Tensor, " samples"]:
    """Return each sample's mean cosine with its nearest neighbours, itself left out."""
    count = min(count, len(features) - 1)
    if count < 1:
        return torch.zeros(len(features), dtype=torch.double)
    means = []
    for start in range(0, len(features), ROWS):
        part = features[start : start + ROWS].double()
        similar = part @ features.double().T
        similar[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf
        means.append(similar.topk(count, dim=1).values.mean(dim=1))
    return torch.cat(means)


def _seeds(
    x: Float[Tensor, "samples dim"],
    weights: Float[Tensor, " samples"],
    num_clusters: int,
    draws: Generator,
) -> Int[Tensor, " clusters"]:
    """Draw first centres, each with probability in proportion to weight times squared distance."""
    chosen: list[int] = []
    distance = torch.ones(len(x), dtype=torch.double)
    for _ in range(num_clusters):
        ladder = (weights * distance).cumsum(0)
        throw = torch.rand(1, generator=draws, dtype=torch.double) * ladder[-1]
        pick = min(int(torch.searchsorted(ladder, throw, right=True)), len(x) - 1)
        chosen.append(pick)
        distance = torch.minimum(distance, (2 - 2 * (x @ x[pick])).clamp(min=0))
    return torch.tensor(chosen, dtype=torch.long)
