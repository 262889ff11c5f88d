"""Names of strategies, of which some are built on others."""

import pytest

from clipcore.active.strategy_names import (
    UnknownStrategy,
    check_strategy,
    is_ranking,
    strategy_now,
)


@pytest.mark.parametrize(
    ("name", "first", "later"),
    [
        ("entropy", "entropy", "entropy"),
        ("pcb", "pcb", "pcb"),
        ("pcb:entropy", "pcb:entropy", "pcb:entropy"),
        ("clusters-first:entropy", "typical", "entropy"),
        ("clusters-first", "typical", "badge"),
        ("clusters-first:pcb", "typical", "pcb"),
        ("pcb:clusters-first:entropy", "pcb:typical", "pcb:entropy"),
    ],
)
def test_clusters_first_is_two_strategies_in_turn(name: str, first: str, later: str) -> None:
    check_strategy(name)
    assert strategy_now(name, answered=False) == first
    assert strategy_now(name, answered=True) == later


@pytest.mark.parametrize("name", ["", "luck", "pcb:luck", "clusters-first:luck", "entropy:pcb"])
def test_what_stands_for_nothing_is_refused(name: str) -> None:
    with pytest.raises(UnknownStrategy, match=r"expected one of paper, .*clusters-first:NAME"):
        check_strategy(name)


def test_what_clusters_first_ranks_it_ranks_from_its_second_round() -> None:
    assert is_ranking(strategy_now("clusters-first:entropy", answered=True))
    assert is_ranking(strategy_now("pcb:clusters-first:entropy", answered=True))
    assert not is_ranking(strategy_now("clusters-first:entropy", answered=False))
    assert not is_ranking("transductive")
