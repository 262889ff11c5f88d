"""Numbers as a person reads them; what is not known is a dash."""

from collections.abc import Sequence

UNKNOWN = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_SPACE = "\N{NARROW NO-BREAK SPACE}"
_PRECISE_BELOW = 10  # seconds


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as percent."""
    return UNKNOWN if share is None else f"{100 * share:.{digits}f}{_SPACE}%"


def points(change: float | None) -> str:
    """Return a difference of shares as percentage points with its sign."""
    if change is None:
        return UNKNOWN
    text = f"{100 * change:+.1f}".replace("-", _MINUS)
    return "0.0" if text in {"+0.0", f"{_MINUS}0.0"} else text


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with thousands apart and `digits` decimals; a whole number has none."""
    if value is None:
        return UNKNOWN
    text = f"{int(value):,}" if float(value).is_integer() else f"{value:,.{digits}f}"
    return text.replace("-", _MINUS)


def duration(seconds: float) -> str:
    """Return a time: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < _PRECISE_BELOW:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines for a terminal; a column is as wide as its widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
