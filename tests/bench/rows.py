"""What a benchmark found: one row per comparison, one table, and the machine it was found on."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from clipcore.precision import has_fast_bf16

HEADINGS = ("", "ours", "peer", "unit", "ratio", "target", "ok?")


@dataclass(frozen=True)
class Row:
    """One comparison. The target is a bound on the ratio; without one the row only informs."""

    name: str
    unit: str
    ours: float
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


def machine(device: torch.device) -> dict[str, str]:
    """Return what the numbers depend on."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f} over the last minute, before the first benchmark",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": "bf16 autocast" if has_fast_bf16(device) else "fp32",
        "torch": str(torch.__version__),
        "torch threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
    }


def _cells(row: Row) -> tuple[str, ...]:
    ok = {None: "", True: "yes", False: "NO"}[row.ok]
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


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
