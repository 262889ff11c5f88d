"""Rows of cells become one table."""

import pytest

from tasks.compare.measure import Row
from tasks.compare.results import COLUMNS, Comparison, compared, lines_of, markdown_of


def row(method: str, seed: int, accuracy: float, balance: str = "as-is", **more: object) -> Row:
    return {"method": method, "seed": seed, "balance": balance, "accuracy": accuracy, **more}


def comparison(rows: list[Row]) -> Comparison:
    return Comparison(
        origin="photos",
        backbone="embedded",
        command="coft compare --images photos",
        seeds=2,
        shots=0,
        results=compared(rows),
    )


ROWS = [
    row("zero-shot", 0, 0.50),
    row("zero-shot", 1, 0.60),
    row("zlap", 0, 0.60, seconds=2.0, peak_bytes=2**21),
    row("zlap", 1, 0.80, seconds=4.0, peak_bytes=2**21),
]


def test_means_spreads_and_gains_are_over_seeds() -> None:
    best, base = compared(ROWS)
    assert (best.method, base.method) == ("zlap", "zero-shot")
    assert best.accuracy == pytest.approx(0.70)
    assert best.spread == pytest.approx(0.10)
    assert best.to_zero_shot == pytest.approx(0.15)
    assert best.seconds == pytest.approx(3.0)
    assert best.taught_precision is None


def test_a_method_that_failed_is_a_row_that_says_so() -> None:
    failed: Row = {"method": "inmap", "seed": 0, "balance": "as-is", "failed": "ValueError: no"}
    found = comparison([*ROWS, failed])
    (one,) = (one for one in found.results if one.method == "inmap")
    assert (one.accuracy, one.seeds, one.failed) == (None, 0, ("ValueError: no",))
    said = "\n".join(lines_of(found))
    assert "failed" in said
    assert "inmap, as-is: ValueError: no" in said


def test_a_seed_that_failed_leaves_the_others() -> None:
    failed: Row = {"method": "zlap", "seed": 2, "balance": "as-is", "failed": "MemoryError: "}
    one = compared([*ROWS, failed])[0]
    assert (one.seeds, one.accuracy) == (2, pytest.approx(0.70))


def test_the_best_is_the_one_that_gains_most_over_all_balances() -> None:
    tail = [row("zero-shot", 0, 0.5, "long-tail"), row("zlap", 0, 0.1, "long-tail")]
    safe = [row("stata", 0, 0.55), row("stata", 1, 0.65), row("stata", 0, 0.6, "long-tail")]
    found = comparison([*ROWS, *tail, *safe])
    assert found.best == "stata"
    assert any("zlap -0.400" in line for line in lines_of(found))


def test_the_table_in_markdown_has_every_column_and_row() -> None:
    table = [line for line in markdown_of(comparison(ROWS)).splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert all(line.count("|") == len(COLUMNS) + 1 for line in table)


def test_columns_that_say_nothing_are_left_out_of_the_terminal() -> None:
    head = lines_of(comparison(ROWS))[0]
    assert "seconds" in head
    assert "labels right" not in head
