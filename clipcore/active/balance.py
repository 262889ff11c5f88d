"""Queries that are spread over the classes."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from clipcore.active.candidates import Candidates, Strategy
from clipcore.active.uncertainty import entropy_of, highest

Remainder = Literal["per-class", "global"]
POOL_SHARE = 0.1  # of the candidates, from which PCB picks (https://arxiv.org/abs/2311.11178, 4.1)


def lowest_gap(
    candidates: Candidates, budget: int, _draws: Generator, *, remainder: Remainder = "per-class"
) -> Tensor:
    """Ask, in equal shares per predicted class, where the label is least likely to be right.

    The strategy of https://arxiv.org/abs/2602.04340, section 3.3. Its order is that of the logit
    gap: the clean probability saturates, and its ties would be broken by position.
    """
    return even_share(
        -candidates.gap,
        candidates.predicted,
        budget,
        num_classes=candidates.num_classes,
        remainder=remainder,
    )


def even_share(
    uncertainty: Float[Tensor, " samples"],
    predicted: Int[Tensor, " samples"],
    budget: int,
    *,
    num_classes: int,
    remainder: Remainder = "per-class",
) -> Int[Tensor, " chosen"]:
    r"""Return the $\lfloor B/C \rfloor$ most doubtful samples of each class, then the remainder.

    What is left of the budget, because it is no multiple of C or because a class has too few
    samples, goes to the most doubtful of the rest. "per-class": each class offers one more sample
    in turn, so that with B < C no class is asked about twice; "global": one ranking of all. Both
    are readings of "picking the most uncertain samples across classes".

    Returns:
        min(budget, samples) distinct positions, by falling doubt within each part.
    """
    order = torch.argsort(uncertainty, descending=True, stable=True)
    turn = _rank_within(predicted[order], num_classes)
    quota = budget // num_classes
    if remainder == "per-class":  # the first of every class, the second of every class, ...
        order = order[torch.argsort(turn, stable=True)]
        return order[:budget]
    due = turn < quota
    return torch.cat([order[due], order[~due]])[:budget]


def tail_first(candidates: Candidates, budget: int, _draws: Generator) -> Tensor:
    """Ask, each time, about the broadest prediction of the class with fewest labels (TFS).

    Every choice counts as a label of its predicted class. The paper counts images that it retrieves
    from open data too; here only answers count, so a tail is what was answered least.

    Reference: Tail First Sampling, https://arxiv.org/abs/2506.01724, as its project page tells it.
    """
    order = highest(entropy_of(candidates.probabilities), len(candidates))
    counts = torch.bincount(candidates.labels, minlength=candidates.num_classes)
    return _fill_rarest(order, candidates.predicted[order], counts, budget)


def balanced(base: Strategy) -> Strategy:
    """Make a strategy even out the classes of what it asks about (PCB).

    The base strategy names a tenth of the pool, or twice the budget if that is more. From these,
    each pick is the first one of the class, as predicted, that has fewest labels so far; the public
    code draws one of that class. A class without candidates is set aside; in the public code it
    stays the rarest for ever, and all later picks are random.

    Reference: https://arxiv.org/abs/2311.11178, algorithm 1.
    """

    def choose(candidates: Candidates, budget: int, draws: Generator) -> Tensor:
        wide = max(2 * budget, int(POOL_SHARE * len(candidates)))
        named = base(candidates, wide, draws)
        counts = torch.bincount(candidates.labels, minlength=candidates.num_classes)
        return _fill_rarest(named, candidates.predicted[named], counts, budget)

    return choose


def _fill_rarest(
    named: Int[Tensor, " named"],
    predicted: Int[Tensor, " named"],
    counts: Int[Tensor, " classes"],
    budget: int,
) -> Int[Tensor, " chosen"]:
    """Take samples one by one, each time of the class with the lowest count, in the given order.

    A sample is taken when its class has as many labels as before the first one, and as many more
    as samples of the class were named before it; of equal counts the lower class number is first.
    """
    due = counts[predicted] + _rank_within(predicted, len(counts))
    by_class = torch.argsort(predicted, stable=True)
    return named[by_class[torch.argsort(due[by_class], stable=True)]][:budget]


def _rank_within(labels: Int[Tensor, " samples"], num_classes: int) -> Int[Tensor, " samples"]:
    """Return how many samples of the same class stand before each sample."""
    by_class = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels, minlength=num_classes)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    return rank
