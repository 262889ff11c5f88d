"""What a benchmark found: one row per comparison, and all of them as one table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

HEADINGS = ("", "ours", "peer", "unit", "ratio", "target", "ok?")


@dataclass(frozen=True)
class Row:
    """One comparison. The target is a bound on the ratio; without one the row only informs.

    A row without a number of ours was not measured; its note says why.
    """

    name: str
    unit: str = ""
    ours: float | None = None
    peer: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def target(self) -> str:
        """Return the bound as text."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return "" if self.at_most is None else f"<= {self.at_most:g}"

    @property
    def ok(self) -> bool | None:
        """Return whether the target is met; None where there is none."""
        if self.ratio is None or not self.target:
            return None
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return self.at_most is not None and self.ratio <= self.at_most

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Row":
        """Return the row that `as_json` was made of."""
        return cls(**{field.name: found[field.name] for field in fields(cls)})

    def as_json(self) -> dict[str, Any]:
        """Return all fields, the target as text, and whether it is met."""
        return {**asdict(self), "target": self.target, "ok": self.ok}


def render(rows: Sequence[Row]) -> str:
    """Return the table, and under it what has to be known to read it."""
    lines = [HEADINGS, *map(_cells, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADINGS))]
    text = ["  ".join(_align(line, widths)).rstrip() for line in lines]
    notes = [f"  {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join([*text, "", *notes])


def _cells(row: Row) -> tuple[str, ...]:
    ok = {None: "" if row.ours is not None else "none", True: "yes", False: "NO"}[row.ok]
    numbers = (_number(row.ours), _number(row.peer), row.unit, _number(row.ratio, digits=3))
    return (row.name, *numbers, row.target, ok)


def _number(value: float | None, *, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _align(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    left = (0, 3, 5, 6)
    return [
        cell.ljust(width) if place in left else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
