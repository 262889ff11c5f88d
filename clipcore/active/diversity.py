"""Queries whose images differ from each other and from what was answered."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from clipcore.active.candidates import Candidates, Strategy
from clipcore.active.clusters import (
    cluster,
    nearest_mean_similarity,
    nearest_similarity,
    neighbours_mean,
)
from clipcore.active.uncertainty import entropy_of

NEIGHBOURS = 20  # TypiClust's K, https://arxiv.org/abs/2202.02794, section 3.2


def k_center(candidates: Candidates, budget: int, draws: Generator) -> Tensor:
    """Ask, one by one, about the image that is farthest from all answered and chosen ones.

    Without any answer the first is drawn. Reference: CoreSet, https://arxiv.org/abs/1708.00489,
    algorithm 1.
    """
    features = candidates.features
    closeness = nearest_similarity(features, candidates.labeled_features)
    chosen: list[int] = []
    for _ in range(min(budget, len(candidates))):
        if not chosen and not len(candidates.labels):
            pick = int(torch.randint(len(candidates), (1,), generator=draws))
        else:
            pick = _first(closeness, float(closeness.min()))
        chosen.append(pick)
        closeness = torch.maximum(closeness, features @ features[pick])
        closeness[pick] = torch.inf  # also where rounding makes it less like itself than a twin
    return torch.tensor(chosen, dtype=torch.long)


def badge(candidates: Candidates, budget: int, draws: Generator) -> Tensor:
    r"""Ask about images whose gradients are large and unlike each other: k-means++ seeding.

    The gradient of the loss at the predicted label is $g = (p - e_{\hat y}) \otimes v$. Its
    distances are computed from the factors,
    $\|g_i - g_j\|^2 = \|a_i\|^2\|v_i\|^2 + \|a_j\|^2\|v_j\|^2
    - 2 \langle a_i, a_j\rangle\langle v_i, v_j\rangle$,
    so memory is (samples, classes + dim), not (samples, classes x dim).

    Reference: https://arxiv.org/abs/1906.03671, algorithm 1.
    """
    v = candidates.features.double()
    a = candidates.probabilities.double().clone()
    a[torch.arange(len(a)), candidates.predicted] -= 1
    norms = a.square().sum(dim=1) * v.square().sum(dim=1)
    chosen: list[int] = []
    distance = norms.clone()  # to nothing: the first pick is the largest gradient
    for _ in range(min(budget, len(candidates))):
        pick = _drawn(distance, draws) if chosen else _first(norms, float(norms.max()))
        to_pick = norms + norms[pick] - 2 * (a @ a[pick]) * (v @ v[pick])
        to_pick = to_pick.clamp(min=0)
        distance = torch.minimum(distance, to_pick) if chosen else to_pick
        chosen.append(pick)
        distance[torch.tensor(chosen)] = 0
        _keep_a_choice(distance, chosen)
    return torch.tensor(chosen, dtype=torch.long)


def typical(candidates: Candidates, budget: int, draws: Generator) -> Tensor:
    """Ask about the most typical image of each cluster, the largest uncovered clusters first.

    For a cold start, when scores say little. The images are clustered into as many groups as there
    will be answers; a group with an answer is covered. Typical is what lies close to its nearest
    neighbours within the group. Reference: TypiClust, https://arxiv.org/abs/2202.02794, section 3.
    """
    everything = torch.cat([candidates.features, candidates.labeled_features])
    num_clusters = min(budget + len(candidates.labels), len(everything))
    assigned = cluster(everything, num_clusters, draws)
    own, answered = assigned[: len(candidates)], assigned[len(candidates) :]
    covered = torch.bincount(answered, minlength=num_clusters)
    sizes = torch.bincount(own, minlength=num_clusters)
    chosen: list[int] = []
    while len(chosen) < min(budget, len(candidates)):
        open_groups = [k for k in range(num_clusters) if int(sizes[k])]
        group = min(open_groups, key=lambda k: (int(covered[k]), -int(sizes[k]), k))
        members = torch.nonzero(own == group).flatten()
        density = nearest_mean_similarity(candidates.features[members], NEIGHBOURS)
        pick = int(members[_first(density, float(density.max()))])
        chosen.append(pick)
        own[pick] = -1
        covered[group] += 1
        sizes[group] -= 1
    return torch.tensor(chosen, dtype=torch.long)


def clusters_first(later: Strategy) -> Strategy:
    """Make a strategy begin with `typical`, and choose itself as soon as there is an answer.

    TypiClust is for the first labels; with more of them doubt is the better guide
    (https://arxiv.org/abs/2202.02794, section 1).
    """

    def choose(candidates: Candidates, budget: int, draws: Generator) -> Tensor:
        now = later if len(candidates.labels) else typical
        return now(candidates, budget, draws)

    return choose


def calibrated_entropy(candidates: Candidates, budget: int, draws: Generator) -> Tensor:
    """Ask once per cluster of doubtful images (CEC, as far as its abstract tells).

    Entropy is calibrated by dividing the probabilities by their mean over the pool, which takes out
    CLIP's preference for some classes; doubt is the mean of an image's own and of its neighbours';
    k-means weighted by doubt gives one image for each cluster, the one nearest to its centre. The
    exact formulas of https://arxiv.org/abs/2410.22187 are not public: each of the three is ours.
    """
    p = candidates.probabilities.double()
    p = p / p.mean(dim=0).clamp(min=1e-12)
    entropy = entropy_of(p / p.sum(dim=1, keepdim=True))
    doubt = (entropy + neighbours_mean(candidates.features, entropy, NEIGHBOURS)) / 2
    num_clusters = min(budget, len(candidates))
    assigned = cluster(candidates.features, num_clusters, draws, weights=doubt)
    chosen = _nearest_to_centres(candidates.features, assigned, doubt, num_clusters)
    rest = [p for p in torch.argsort(-doubt, stable=True).tolist() if p not in set(chosen)]
    return torch.tensor((chosen + rest)[:num_clusters], dtype=torch.long)


def _first(values: Float[Tensor, " samples"], value: float) -> int:
    """Return the first position of a value: argmax promises nothing about ties."""
    return int(torch.nonzero(values == value)[0])


def _drawn(distance: Float[Tensor, " samples"], draws: Generator) -> int:
    """Draw a position with probability in proportion to the squared distance."""
    ladder = distance.cumsum(0)
    throw = torch.rand(1, generator=draws, dtype=torch.double) * ladder[-1]
    return min(int(torch.searchsorted(ladder, throw, right=True)), len(distance) - 1)


def _keep_a_choice(distance: Float[Tensor, " samples"], chosen: list[int]) -> None:
    """Make all others equally likely when every one of them equals a chosen one."""
    if float(distance.sum()) == 0 and len(chosen) < len(distance):
        distance.fill_(1)
        distance[torch.tensor(chosen)] = 0


def _nearest_to_centres(
    features: Float[Tensor, "samples dim"],
    assigned: Int[Tensor, " samples"],
    weights: Float[Tensor, " samples"],
    num_clusters: int,
) -> list[int]:
    """Return, for each cluster that is not empty, the member nearest to its weighted centre."""
    chosen = []
    for group in range(num_clusters):
        members = torch.nonzero(assigned == group).flatten()
        if len(members):
            own = features[members].double()
            centre = (weights[members, None] * own).sum(0)
            similar = own @ centre
            chosen.append(int(members[_first(similar, float(similar.max()))]))
    return chosen
