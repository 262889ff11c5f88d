"""Choose what to ask about, without near-duplicates of what is asked or answered already."""

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

    Two images whose start features have a cosine above `max_similarity` are near-duplicates. Those
    of answered images are excluded. The strategy then chooses; of near-duplicates among its choice
    the first one stays, the others and all images like them are excluded, and the strategy chooses
    anew, whole, so that its quotas and its spread hold for the query as it ends up. Only when
    nothing else is left do near-duplicates fill up.

    Args:
        strategy: Chooses.
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
    x = candidates.start_features
    excluded = _like_any(x, candidates.labeled_start_features, max_similarity)
    chosen = torch.zeros(0, dtype=torch.long)
    while not bool(excluded.all()):
        left = torch.nonzero(~excluded).flatten()
        chosen = left[strategy(candidates.only(left), min(budget, len(left)), draws)]
        single = _without_duplicates(x, chosen, max_similarity)
        if len(single) == len(chosen):
            break
        like = _like_any(x, x[single], max_similarity)
        like[single] = False
        excluded |= like
    return _fill_up(strategy, candidates, chosen, budget, draws)


def _fill_up(
    strategy: Strategy,
    candidates: Candidates,
    chosen: Int[Tensor, " chosen"],
    budget: int,
    draws: Generator,
) -> Int[Tensor, " query"]:
    """Add near-duplicates, in the strategy's order, until the budget is met."""
    missing = budget - len(chosen)
    if not missing:
        return chosen
    rest = torch.ones(len(candidates), dtype=torch.bool)
    rest[chosen] = False
    others = torch.nonzero(rest).flatten()
    return torch.cat([chosen, others[strategy(candidates.only(others), missing, draws)]])


def _without_duplicates(
    x: Float[Tensor, "samples dim"], chosen: Int[Tensor, " chosen"], max_similarity: float
) -> Int[Tensor, " kept"]:
    """Return the chosen samples without those that are too like an earlier one."""
    similar = x[chosen] @ x[chosen].T > max_similarity
    kept: list[int] = []
    for row in range(len(chosen)):
        if not bool(similar[row, kept].any()):
            kept.append(row)
    return chosen[kept]


def _like_any(
    x: Float[Tensor, "samples dim"],
    others: Float[Tensor, "others dim"],
    max_similarity: float,
) -> Bool[Tensor, " samples"]:
    """Return which samples are too like one of the others."""
    return nearest_similarity(x, others) > max_similarity
