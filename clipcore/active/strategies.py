"""The strategies by the names that people use for them."""

from collections.abc import Mapping
from functools import partial

from clipcore.active.balance import balanced, lowest_gap, tail_first
from clipcore.active.candidates import Strategy
from clipcore.active.diversity import badge, calibrated_entropy, clusters_first, k_center, typical
from clipcore.active.sampling_policy import prompt_guided
from clipcore.active.spreading import least_spread_margin
from clipcore.active.strategy_names import CLUSTERS_FIRST, DEFAULT_BASE, PCB, check_strategy
from clipcore.active.uncertainty import (
    at_random,
    least_agreement,
    least_confidence,
    least_margin,
    most_entropy,
)

STRATEGIES: Mapping[str, Strategy] = {
    "paper": lowest_gap,
    "paper-global": partial(lowest_gap, remainder="global"),
    "random": at_random,
    "entropy": most_entropy,
    "margin": least_margin,
    "confidence": least_confidence,
    "agreement": least_agreement,
    "transductive": least_spread_margin,
    "coreset": k_center,
    "badge": badge,
    "typical": typical,
    "cec": calibrated_entropy,
    "tfs": tail_first,
    "psp": prompt_guided,
}


def find_strategy(name: str) -> Strategy:
    """Return a strategy, also one that is built on another (`badge`, where none is named).

    `pcb:NAME` balances the classes of NAME; `clusters-first:NAME` begins with clusters.

    Raises:
        UnknownStrategy: the name is none of them.
    """
    check_strategy(name)
    first, _, base = name.partition(":")
    if first == PCB:
        return balanced(find_strategy(base or DEFAULT_BASE))
    if first == CLUSTERS_FIRST:
        return clusters_first(find_strategy(base or DEFAULT_BASE))
    return STRATEGIES[name]
