"""Choose what to ask about, so that no answer tells what another one has told already."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from clipcore.active.candidates import Candidates, Strategy
from clipcore.active.clusters import nearest_similarity


def query(
    strategy: Strategy,
    candidates: Candidates,
    budget: int,
    draws: Generator,
    *,
    max_similarity: float = 0.97,
) -> Int[Tensor, " chosen"]:
    """Return min(budget, samples) distinct positions of candidates, near-duplicates last.

    Two images whose looks have a cosine above `max_similarity` are twins. A twin of an answered
    image is set aside. The strategy then chooses; of twins among what it chose the first one stays,
    the others and all their like are set aside, and the strategy chooses anew, whole, so that its
    quotas and its spread hold for the query as it ends up. Only when nothing else is left do twins
    fill up.

    Args:
        strategy: What chooses.
        candidates: What can be asked about.
        budget: How many answers are wanted.
        draws: Where the strategy draws from; equal draws, equal query.
        max_similarity: Cosine above which two images count as one; 1 or more turns this off.
    """
    budget = min(budget, len(candidates))
    if not budget:
        return torch.zeros(0, dtype=torch.long)
    if max_similarity >= 1:
        return strategy(candidates, budget, draws)
    looks = candidates.looks
    aside = _like_any(looks, candidates.labeled_looks, max_similarity)
    chosen = torch.zeros(0, dtype=torch.long)
    while not bool(aside.all()):
        left = torch.nonzero(~aside).flatten()
        chosen = left[strategy(candidates.only(left), min(budget, len(left)), draws)]
        single = _without_twins(looks, chosen, max_similarity)
        if len(single) == len(chosen):
            break
        like = _like_any(looks, looks[single], max_similarity)
        like[single] = False
        aside |= like
    return _fill_up(strategy, candidates, chosen, budget, draws)


def _fill_up(
    strategy: Strategy,
    candidates: Candidates,
    chosen: Int[Tensor, " chosen"],
    budget: int,
    draws: Generator,
) -> Int[Tensor, " query"]:
    """Add twins, in the strategy's order, until the budget is met."""
    missing = budget - len(chosen)
    if not missing:
        return chosen
    rest = torch.ones(len(candidates), dtype=torch.bool)
    rest[chosen] = False
    others = torch.nonzero(rest).flatten()
    return torch.cat([chosen, others[strategy(candidates.only(others), missing, draws)]])


def _without_twins(
    looks: Float[Tensor, "samples look"], chosen: Int[Tensor, " chosen"], max_similarity: float
) -> Int[Tensor, " kept"]:
    """Return what was chosen without those that are too like an earlier one."""
    similar = looks[chosen] @ looks[chosen].T > max_similarity
    kept: list[int] = []
    for row in range(len(chosen)):
        if not bool(similar[row, kept].any()):
            kept.append(row)
    return chosen[kept]


def _like_any(
    looks: Float[Tensor, "samples look"],
    others: Float[Tensor, "others look"],
    max_similarity: float,
) -> Bool[Tensor, " samples"]:
    """Say which samples are too like one of the others."""
    return nearest_similarity(looks, others) > max_similarity
