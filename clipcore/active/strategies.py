"""The strategies by the names that people use for them."""

from collections.abc import Mapping
from functools import partial

from clipcore.active.balance import balanced, lowest_gap
from clipcore.active.candidates import Strategy
from clipcore.active.diversity import badge, calibrated_entropy, k_center, typical
from clipcore.active.strategy_names import PCB, check_strategy
from clipcore.active.uncertainty import at_random, least_confidence, least_margin, most_entropy

STRATEGIES: Mapping[str, Strategy] = {
    "paper": lowest_gap,
    "paper-global": partial(lowest_gap, remainder="global"),
    "random": at_random,
    "entropy": most_entropy,
    "margin": least_margin,
    "confidence": least_confidence,
    "coreset": k_center,
    "badge": badge,
    "typical": typical,
    "cec": calibrated_entropy,
}


def find_strategy(name: str) -> Strategy:
    """Return a strategy; `pcb:NAME` balances the classes of another, `pcb` those of badge.

    Raises:
        UnknownStrategy: the name is none of them.
    """
    check_strategy(name)
    first, _, base = name.partition(":")
    return balanced(find_strategy(base or "badge")) if first == PCB else STRATEGIES[name]
