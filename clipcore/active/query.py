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

    What the strategy names is taken in its order, except for an image whose cosine with an earlier
    one of this query, or with an answered one, is above `max_similarity`; in its place the strategy
    is asked again among the rest. Only when nothing else is left do near-duplicates fill up.

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
    settled = _like_any(candidates.features, candidates.labeled_features, max_similarity)
    chosen: list[int] = []
    while len(chosen) < budget and not bool(settled.all()):
        left = torch.nonzero(~settled).flatten()
        named = left[strategy(candidates.only(left), budget - len(chosen), draws)].tolist()
        fresh = _without_twins(candidates.features, named, max_similarity)
        settled[named] = True
        settled |= _like_any(candidates.features, candidates.features[fresh], max_similarity)
        chosen += fresh
    return _fill_up(strategy, candidates, chosen, budget, draws)


def _fill_up(
    strategy: Strategy, candidates: Candidates, chosen: list[int], budget: int, draws: Generator
) -> Int[Tensor, " chosen"]:
    """Add near-duplicates, in the strategy's order, until the budget is met."""
    taken = torch.tensor(chosen, dtype=torch.long)
    missing = budget - len(chosen)
    if not missing:
        return taken
    rest = torch.ones(len(candidates), dtype=torch.bool)
    rest[taken] = False
    others = torch.nonzero(rest).flatten()
    return torch.cat([taken, others[strategy(candidates.only(others), missing, draws)]])


def _without_twins(
    features: Float[Tensor, "samples dim"], named: list[int], max_similarity: float
) -> list[int]:
    """Return the named positions without those that are too like an earlier one."""
    kept: list[int] = []
    for position in named:
        if not kept or float((features[kept] @ features[position]).max()) <= max_similarity:
            kept.append(position)
    return kept


def _like_any(
    features: Float[Tensor, "samples dim"],
    others: Float[Tensor, "others dim"],
    max_similarity: float,
) -> Bool[Tensor, " samples"]:
    """Say which samples are too like one of the others."""
    return nearest_similarity(features, others) > max_similarity
