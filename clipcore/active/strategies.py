"""The strategies by the names that people use for them."""

from collections.abc import Mapping
from functools import partial

from clipcore.active.balance import balanced, lowest_gap
from clipcore.active.candidates import Strategy
from clipcore.active.diversity import badge, calibrated_entropy, k_center, typical
from clipcore.active.uncertainty import at_random, least_confidence, least_margin, most_entropy

PCB = "pcb"

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

RANKINGS = ("paper", "paper-global", "entropy", "margin", "confidence")
"""Strategies that rank images one by one: the best of a pool are the best of its parts' best."""


class UnknownStrategy(KeyError):
    """A name that stands for no strategy."""


def find_strategy(name: str) -> Strategy:
    """Return a strategy; `pcb:NAME` balances the classes of another, `pcb` those of badge.

    Raises:
        UnknownStrategy: the name is none of them.
    """
    first, _, base = name.partition(":")
    if first == PCB:
        return balanced(find_strategy(base or "badge"))
    if name not in STRATEGIES:
        raise UnknownStrategy(
            f"strategy {name!r} is unknown: expected one of {', '.join(STRATEGIES)}, "
            f"or {PCB}:NAME for one of them with its classes balanced"
        )
    return STRATEGIES[name]


def is_ranking(name: str) -> bool:
    """Say whether a strategy, or the one that it balances, ranks images one by one."""
    return name.removeprefix(f"{PCB}:") in RANKINGS
