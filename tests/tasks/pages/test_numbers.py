"""Numbers as a person reads them."""

import pytest

from tasks.pages.numbers import UNKNOWN, duration, number, percent, points

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (9.96, "10.0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7810, "2 h 10 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_shares_and_their_differences() -> None:
    assert percent(0.1234) == f"12.3{SPACE}%"
    assert percent(1, 0) == f"100{SPACE}%"
    assert points(0.05) == "+5.0"
    assert points(-0.051) == f"{MINUS}5.1"
    assert points(0.0001) == points(-0.0001) == "0.0"


def test_numbers_have_thousands_apart_and_few_decimals() -> None:
    assert number(1234567) == number(1234567.0) == "1,234,567"
    assert number(1234.56789) == "1,234.568"
    assert number(-1.5, 1) == f"{MINUS}1.5"


def test_the_unknown_is_a_dash() -> None:
    assert percent(None) == points(None) == number(None) == UNKNOWN
