"""What Libra learned: tables of the runs.

`python -m tests.bench.libra_table FILE ...` reads what `tests.bench.libra_captions` wrote.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, NamedTuple

from tests.bench.libra_captions import Plan

Row = dict[str, Any]
Runs = Mapping[str, Sequence[Row]]


class Column(NamedTuple):
    """A number of a row, by the keys that lead to it."""

    name: str
    keys: tuple[str, ...]
    digits: int = 3
    scale: float = 1.0


def main() -> None:
    """Print the tables."""
    runs = defaultdict[str, list[Row]](list)
    for file in sys.argv[1:]:
        for line in Path(file).read_text().splitlines():
            row = json.loads(line)
            row["last losses"] = dict(
                zip(("text", "vision"), row[f"losses at {row['plan']['steps']}"], strict=True)
            )
            runs[_name(Plan(**row["plan"]))].append(row)
    sys.stdout.write("\n".join(_lines(runs)) + "\n")


def _name(plan: Plan) -> str:
    design = ", ".join(f"{name} {value}" for name, value in plan.design.items())
    return f"{plan.data} | {plan.labels} | {plan.steps} | {design or 'as by default'}"


def _lines(runs: Runs) -> Iterator[str]:
    head = "data | labels | steps | design"
    yield from _table(head, runs, ACCURACY)
    yield from _table(head, runs, COST)
    yield from _table(head, _with(runs, "zeroed"), ZEROED)
    asked = [row for rows in _with(runs, "prompts").values() for row in rows]
    if asked:
        prompts = {
            prompt: [{**row["prompts"][prompt], "plan": row["plan"]} for row in asked]
            for prompt in asked[0]["prompts"]
        }
        yield from _table("prompt", prompts, PROMPTS)
        yield from _table("of", {"names never taught": asked}, NEVER_TAUGHT)


def _with(runs: Runs, key: str) -> Runs:
    found = {name: [row for row in rows if key in row] for name, rows in runs.items()}
    return {name: rows for name, rows in found.items() if rows}


def _table(head: str, runs: Runs, columns: Sequence[Column]) -> Iterator[str]:
    yield f"| {head} | seeds | {' | '.join(one.name for one in columns)} |"
    yield "|" + "---|" * (head.count("|") + 2 + len(columns))
    for name, rows in runs.items():
        seeds = ", ".join(str(row["plan"]["seed"]) for row in rows)
        yield f"| {name} | {seeds} | {' | '.join(_cell(one, rows) for one in columns)} |"
    yield ""


def _cell(column: Column, rows: Sequence[Row]) -> str:
    """Return the mean over the rows that have a value, and the deviation where there is one."""
    values = [column.scale * value for row in rows if (value := _found(row, column)) is not None]
    if not values:
        return ""
    spread = f" ± {pstdev(values):.{column.digits}f}" if pstdev(values) else ""
    return f"{fmean(values):,.{column.digits}f}{spread}"


def _found(row: Row, column: Column) -> float | None:
    value: Any = row
    for key in column.keys:
        value = value.get(key) if isinstance(value, dict) else None
    return None if value is None else float(value)


ACCURACY = (
    Column("among names", ("constrained",)),
    Column("free", ("free",)),
    Column("zero-shot", ("zero-shot",)),
    Column("probe", ("probe",)),
    Column("images seen", ("images",), 0),
    Column("right labels", ("precision",)),
)
COST = (
    Column("text loss at the end", ("last losses", "text"), 2),
    Column("vision loss", ("last losses", "vision"), 2),
    Column("probability of the names", ("mass",)),
    Column("million parameters", ("parameters",), 1, 1e-6),
    Column("s a step", ("step seconds",), 2),
    Column("ms an image, among names", ("constrained seconds",), 0, 1e3),
    Column("ms an image, free", ("free seconds",), 0, 1e3),
    Column("peak MB", ("peak MB",), 0),
)
ZEROED = (
    Column("among names", ("constrained",)),
    Column("bridge zeroed", ("zeroed", "constrained")),
    Column("free", ("free",)),
    Column("free, bridge zeroed", ("zeroed", "free")),
)
PROMPTS = (
    Column("first token among those of the names", ("first among names",)),
    Column("first token, free", ("first",)),
    Column("whole name, free", ("free",)),
)
NEVER_TAUGHT = (
    Column("among the ten names", ("never taught", "constrained")),
    Column("chance", ("never taught", "chance")),
    Column("free", ("never taught", "free")),
    Column("free says a trained name", ("never taught", "of the trained")),
)


if __name__ == "__main__":
    main()
