"""The names that people use for strategies, known before a strategy is loaded."""

PCB = "pcb"
RANKINGS = ("paper", "paper-global", "entropy", "margin", "confidence")
"""Strategies that rank images one by one: the best of a pool are the best of its parts' best."""
STRATEGY_NAMES = (
    "paper",
    "paper-global",
    "random",
    "entropy",
    "margin",
    "confidence",
    "coreset",
    "badge",
    "typical",
    "cec",
)


class UnknownStrategy(KeyError):
    """A name that stands for no strategy."""


def check_strategy(name: str) -> None:
    """Refuse a name that `find_strategy` does not find: `pcb:NAME` is one, if NAME is.

    Raises:
        UnknownStrategy: the name is none of them.
    """
    first, _, base = name.partition(":")
    if first == PCB:
        check_strategy(base or "badge")
    elif name not in STRATEGY_NAMES:
        raise UnknownStrategy(
            f"strategy {name!r} is unknown: expected one of {', '.join(STRATEGY_NAMES)}, "
            f"or {PCB}:NAME for one of them with its classes balanced"
        )


def is_ranking(name: str) -> bool:
    """Say whether a strategy, or the one that it balances, ranks images one by one."""
    return name.removeprefix(f"{PCB}:") in RANKINGS
