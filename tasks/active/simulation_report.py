"""The results of a simulation: means over seeds, a figure, a page, and lines for the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.on_demand import OnDemand
from tasks.pages.html import render
from tasks.pages.numbers import aligned

if TYPE_CHECKING:
    from tasks.pages import figures
else:  # when there is something to draw
    figures = OnDemand("tasks.pages.figures")

TEMPLATE = "active/simulation.html.j2"
Results = Mapping[str, Any]


def summarize(results: Results) -> dict[str, Any]:
    """Return means and spreads over seeds of each line, and the detectors of wrong predictions.

    The spread is the standard deviation over seeds; the area is that under accuracy against labels,
    as a mean accuracy. `over_random` is the difference to random queries with the same seed.
    """
    lines = {name: _line(trials) for name, trials in results["lines"].items()}
    random = results["lines"].get("random")
    for name, trials in results["lines"].items():
        if random is not None and trials is not random:
            lines[name]["over_random"] = _moments(_accuracies(trials) - _accuracies(random))
    labels = [row["num_labels"] for row in _any_trial(results)]
    return {
        "labels": labels,
        "levels": {name: value for name, value in results["levels"].items() if value is not None},
        "lines": lines,
        "detectors": _detectors(results),
        "num_seeds": len(next(iter(results["lines"].values()))),
    }


def table(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return a table as texts, head first: a row for each strategy, a column for each budget."""
    head = ["strategy", *(f"{count:,} labels" for count in summary["labels"]), "area"]
    rows = [
        [
            name,
            *(
                f"{mean:.3f} ± {spread:.3f}"
                for mean, spread in zip(line["mean"], line["spread"], strict=True)
            ),
            f"{line['area']:.4f}",
        ]
        for name, line in summary["lines"].items()
    ]
    return [head, *rows]


def lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the summary as lines of text for a terminal."""
    texts = aligned(table(summary))
    texts += [
        f"{name} above random, points by seed: {', '.join(gains)}"
        for name, gains in gains_over_random(summary).items()
    ]
    levels = (f"{name} {value:.3f}" for name, value in summary["levels"].items())
    texts.append("without these labels: " + ", ".join(levels))
    detectors = (
        f"{name} " + ("unknown" if values["auroc"] is None else f"{values['auroc']:.3f}")
        for name, values in summary["detectors"].items()
    )
    texts.append("finding wrong predictions, area under ROC: " + ", ".join(detectors))
    return texts


def gains_over_random(summary: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the points above random queries of each other line as texts, round by round."""
    return {
        name: [
            f"{100 * mean:+.1f} ± {100 * spread:.1f}"
            for mean, spread in zip(
                line["over_random"]["mean"], line["over_random"]["spread"], strict=True
            )
        ]
        for name, line in summary["lines"].items()
        if "over_random" in line
    }


def metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the summary as numbers by name, for the tracker."""
    values = {f"simulation/{name}": value for name, value in summary["levels"].items()}
    for name, line in summary["lines"].items():
        values[f"simulation/{name}/area"] = line["area"]
        for count, mean in zip(summary["labels"], line["mean"], strict=True):
            values[f"simulation/{name}/accuracy at {count}"] = mean
    return values


def page(summary: Mapping[str, Any], *, title: str, command: str) -> str:
    """Return the summary as one HTML file that needs no other file."""
    series = {
        name: list(zip(summary["labels"], line["mean"], line["spread"], strict=True))
        for name, line in summary["lines"].items()
    }
    head, *rows = table(summary)
    return render(
        TEMPLATE,
        title=title,
        command=command,
        summary=summary,
        figure=figures.learning_curves(series, summary["levels"]),
        head=head,
        rows=rows,
        gains=gains_over_random(summary),
    )


def _line(trials: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    moments = _moments(_accuracies(trials))
    mean = moments["mean"]
    labels = [row["num_labels"] for row in next(iter(trials.values()))]
    span = labels[-1] - labels[0]
    area = float(np.trapezoid(mean, labels) / span) if span else mean[0]
    return {**moments, "area": area, "empty_classes": _mean_empty(trials)}


def _accuracies(trials: Mapping[str, Sequence[Mapping[str, Any]]]) -> np.ndarray:
    """Return accuracies of shape (seeds, rounds), the seeds in order."""
    rows = [trials[seed] for seed in sorted(trials, key=int)]
    return np.array([[row["accuracy"] for row in trial] for trial in rows])


def _moments(values: np.ndarray) -> dict[str, list[float]]:
    """Return the mean and the standard deviation over seeds, round by round."""
    spread = values.std(axis=0, ddof=min(1, len(values) - 1))
    return {"mean": values.mean(axis=0).tolist(), "spread": spread.tolist()}


def _mean_empty(trials: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[float]:
    """Return, for each round, how many classes had no answer, as a mean over seeds."""
    empty = [[row["answers_per_class"].count(0) for row in rows] for rows in trials.values()]
    means: list[float] = np.mean(empty, axis=0).tolist()
    return means


def _detectors(results: Results) -> dict[str, dict[str, float | None]]:
    """Return how well each certainty finds wrong predictions, as a mean over lines and seeds."""
    rows = [
        row["detectors"]
        for trials in results["lines"].values()
        for trial in trials.values()
        for row in trial
    ]
    return {
        name: {key: _mean([row[name][key] for row in rows]) for key in rows[0][name]}
        for name in rows[0]
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the finite values, None without one."""
    finite = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _any_trial(results: Results) -> Sequence[Mapping[str, Any]]:
    trials = next(iter(results["lines"].values()))
    rows: Sequence[Mapping[str, Any]] = next(iter(trials.values()))
    return rows
