"""What a comparison came to: a row for each method and balance, as a table and in words."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from pydantic import Field

from clipcore.baselines.method_names import LABELLED_NAMES
from tasks.compare.specs import Balance
from tasks.pages.numbers import aligned
from tasks.specs import Spec

MEASURES = (
    "accuracy",
    "mean_recall",
    "worst_recall",
    "calibration_error",
    "auroc",
    "taught_precision",
    "taught_recall",
    "seconds",
    "cpu_seconds",
    "peak_bytes",
    "num_parameters",
)
ZERO_SHOT = "zero-shot"
COLUMNS = (
    "method",
    "balance",
    "accuracy",
    "to zero-shot",
    "worst class",
    "calibration error",
    "finds errors",
    "labels right",
    "labels used",
    "seconds",
    "memory",
    "learned numbers",
)


class Result(Spec):
    """One method at one balance, over its seeds; what was not measured is None."""

    method: str
    balance: Balance
    seeds: int = Field(description="That did not fail.")
    accuracy: float | None = Field(description="Of test images; the mean over the seeds.")
    spread: float = Field(description="Standard deviation of it over the seeds.")
    to_zero_shot: float | None = Field(description="Accuracy above zero-shot's, seed by seed.")
    mean_recall: float | None = None
    worst_recall: float | None = Field(description="Recall of the class that is worst.")
    calibration_error: float | None
    auroc: float | None = Field(description="Of confidence, as a sign that a prediction is right.")
    taught_precision: float | None = Field(description="Of labels it gave itself and learned from.")
    taught_recall: float | None = Field(description="Share of the pool with such a right label.")
    seconds: float | None
    cpu_seconds: float | None = None
    peak_bytes: float | None = Field(description="Memory on top of the images' features.")
    num_parameters: float | None
    num_test: int = 0
    num_pool: int = 0
    failed: tuple[str, ...] = Field((), description="Why, of each seed that failed.")


class Comparison(Spec):
    """All methods, the best accuracy first within a balance."""

    origin: str
    backbone: str
    command: str
    seeds: int
    shots: int
    results: tuple[Result, ...]

    @property
    def best(self) -> str | None:
        """Return the method that gains most over zero-shot in the mean over the balances.

        It ran at all of them, and learned from no label.
        """
        gains: dict[str, list[float | None]] = {}
        for one in self.results:
            gains.setdefault(one.method, []).append(one.to_zero_shot)
        means = {
            name: fmean(gain or 0.0 for gain in own)
            for name, own in gains.items()
            if None not in own and name not in LABELLED_NAMES
        }
        return max(means, key=lambda name: means[name], default=None)


def compared(rows: Sequence[Mapping[str, Any]]) -> tuple[Result, ...]:
    """Return the rows of cells as results, the most accurate ones of each balance first."""
    groups: dict[tuple[Balance, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["balance"], row["method"]), []).append(row)
    base = {
        (row["balance"], row["seed"]): row.get("accuracy")
        for row in rows
        if row["method"] == ZERO_SHOT
    }
    results = [_result(key[1], key[0], own, base) for key, own in groups.items()]
    balances = list(dict.fromkeys(balance for balance, _ in groups))
    return tuple(
        sorted(results, key=lambda one: (balances.index(one.balance), -(one.accuracy or -1.0)))
    )


def _result(
    method: str,
    balance: Balance,
    rows: Sequence[Mapping[str, Any]],
    base: Mapping[tuple[Balance, int], float | None],
) -> Result:
    good = [row for row in rows if "failed" not in row]
    accuracies = [row["accuracy"] for row in good if row["accuracy"] is not None]
    gains = [
        row["accuracy"] - before
        for row in good
        if row["accuracy"] is not None and (before := base.get((balance, row["seed"]))) is not None
    ]
    means = {name: _mean(row.get(name) for row in good) for name in MEASURES}
    return Result(
        method=method,
        balance=balance,
        seeds=len(good),
        spread=pstdev(accuracies) if accuracies else 0.0,
        to_zero_shot=_mean(gains),
        num_test=good[0].get("num_test", 0) if good else 0,
        num_pool=good[0].get("num_pool", 0) if good else 0,
        failed=tuple(row["failed"] for row in rows if "failed" in row),
        **means,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None


# --- as a table -----------------------------------------------------------------------------------


def cells_of(one: Result) -> list[str]:
    """Return the texts of a row, in the order of `COLUMNS`."""
    if not one.seeds:
        return [one.method, one.balance, "failed", *[""] * (len(COLUMNS) - 3)]
    return [
        one.method,
        one.balance,
        f"{number(one.accuracy)} ± {one.spread:.3f}",
        "" if one.to_zero_shot is None else f"{one.to_zero_shot:+.3f}",
        number(one.worst_recall),
        number(one.calibration_error),
        number(one.auroc),
        number(one.taught_precision),
        number(one.taught_recall),
        "" if one.seconds is None else f"{one.seconds:,.1f}",
        "" if one.peak_bytes is None else f"{one.peak_bytes / 2**20:,.0f} MB",
        "" if one.num_parameters is None else f"{one.num_parameters:,.0f}",
    ]


def number(value: float | None) -> str:
    """Return a number between 0 and 1 as a text; empty where it was not measured."""
    return "" if value is None else f"{value:.3f}"


def notes(found: Comparison) -> list[str]:
    """Return what a reader of the table has to know."""
    said = [f"{one.method}, {one.balance}: {why}" for one in found.results for why in one.failed]
    cut = sorted({one.balance for one in found.results} - {"as-is"})
    if cut:
        said.append(
            f"{', '.join(cut)}: images were left out by their labels, of the pool and of the test "
            "images alike; methods do not know which."
        )
    if worst := _worst(found):
        said.append(f"Lowest against zero-shot over the balances: {worst}.")
    if found.shots:
        said.append(f"Methods with labels were told those of {found.shots} images of each class.")
    return said


def _worst(found: Comparison) -> str:
    """Return the lowest gain of each method over the balances, where there are several."""
    gains: dict[str, list[float]] = {}
    for one in found.results:
        if one.to_zero_shot is not None and one.method != ZERO_SHOT:
            gains.setdefault(one.method, []).append(one.to_zero_shot)
    if max((len(own) for own in gains.values()), default=0) < 2:  # noqa: PLR2004  # one balance
        return ""
    lowest = sorted(((min(own), name) for name, own in gains.items()), reverse=True)
    return ", ".join(f"{name} {gain:+.3f}" for gain, name in lowest)


def lines_of(found: Comparison) -> list[str]:
    """Return a comparison as lines for a terminal; columns that say nothing are left out."""
    rows = [list(COLUMNS), *(cells_of(one) for one in found.results)]
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [*aligned(list(zip(*kept, strict=True))), *notes(found)]


def markdown_of(found: Comparison) -> str:
    """Return a comparison as a Markdown table, with what has to be known."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS), *(cells_of(one) for one in found.results)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    head = f"{found.origin}, backbone {found.backbone}, {found.seeds} seeds\n\n`{found.command}`"
    return "\n\n".join([head, table, *notes(found)]) + "\n"
