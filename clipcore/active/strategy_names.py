"""The names that people use for strategies, known before a strategy is loaded."""

PCB = "pcb"
CLUSTERS_FIRST = "clusters-first"
DEFAULT_BASE = "badge"  # of a name that builds on another one and names none
RANKINGS = ("paper", "paper-global", "entropy", "margin", "confidence", "agreement", "tfs")
"""Strategies that rank images one by one: the best of a pool are the best of its parts' best."""
STRATEGY_NAMES = (
    "paper",
    "paper-global",
    "random",
    "entropy",
    "margin",
    "confidence",
    "agreement",
    "transductive",
    "coreset",
    "badge",
    "typical",
    "cec",
    "tfs",
    "psp",
)


class UnknownStrategy(KeyError):
    """A name that stands for no strategy."""


def check_strategy(name: str) -> None:
    """Refuse a name that `find_strategy` does not find: `pcb:NAME` is one, if NAME is.

    Raises:
        UnknownStrategy: the name is none of them.
    """
    first, _, base = name.partition(":")
    if first in (PCB, CLUSTERS_FIRST):
        check_strategy(base or DEFAULT_BASE)
    elif name not in STRATEGY_NAMES:
        raise UnknownStrategy(
            f"strategy {name!r} is unknown: expected one of {', '.join(STRATEGY_NAMES)}, "
            f"{PCB}:NAME for one of them with its classes balanced, or {CLUSTERS_FIRST}:NAME for "
            "one that begins with clusters"
        )


def strategy_now(name: str, *, answered: bool) -> str:
    """Return the strategy that chooses in a round: `clusters-first:NAME` is two, in turn.

    Args:
        name: As people say it.
        answered: Whether any image has an answer.
    """
    first, _, base = name.partition(":")
    if first == CLUSTERS_FIRST:
        return strategy_now(base or DEFAULT_BASE, answered=answered) if answered else "typical"
    if first == PCB and base:
        return f"{PCB}:{strategy_now(base, answered=answered)}"
    return name


def is_ranking(name: str) -> bool:
    """Say whether a strategy, or the one that it balances, ranks images one by one."""
    return name.removeprefix(f"{PCB}:") in RANKINGS
