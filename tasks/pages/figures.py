"""Figures as data URIs: SVG for lines and cells, PNG for clouds of points.

Only `Figure` objects, never pyplot: a report may be drawn in any thread. Colours are Okabe and
Ito's and Tol's, which people with any colour vision tell apart; shape or text says it again.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tasks.pages.html import data_uri

PEER_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
PEER_DASHES = ("-", "--", ":", "-.")
PEER_MARKERS = ("o", "s", "^", "D")
CLASS_COLOURS = (
    "#332288", "#CC6677", "#117733", "#DDAA33", "#44AA99",
    "#882255", "#88CCEE", "#999933", "#AA4499", "#555555",
)  # fmt: skip
CLASS_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">")
OTHERS = "other classes"

MAX_CELL_NUMBERS = 15  # classes; above, numbers in cells cannot be read
MAX_TICK_LABELS = 30  # classes; above, names beside cells cannot be read
_INK, _QUIET, _RULE, _PALE = "#1c2430", "#586273", "#dfe3e8", "#c4cad3"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "coft",  # equal figure, equal bytes
    "font.family": ["DejaVu Sans"],  # wide: what is laid out for it fits in any other font
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _QUIET,
    "axes.edgecolor": _PALE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.8,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.parse_math": False,  # a class name may hold a dollar sign
}


def curve(series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw one quantity over epochs, one line per peer, as SVG.

    Args:
        series: Points (epoch, value) by name of the peer.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.4, 2.1), layout="constrained")
        axes = figure.add_subplot()
        for index, points in enumerate(series.values()):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, **_peer_style(index), linewidth=1.8, markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("epoch", fontsize=8)
        axes.margins(x=0.04, y=0.12)
        return _svg(figure)


def learning_curves(
    series: Mapping[str, Sequence[tuple[float, float, float]]], levels: Mapping[str, float]
) -> str:
    """Draw accuracy against labels, one line for each strategy with its spread, as SVG.

    Args:
        series: Points (labels, mean accuracy, standard deviation) by name.
        levels: Accuracies that do not depend on labels, drawn across.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for index, (name, points) in enumerate(series.items()):
            x, mean, spread = (np.asarray(column) for column in zip(*points, strict=True))
            style: dict[str, Any] = {"color": CLASS_COLOURS[index % len(CLASS_COLOURS)]}
            marker = CLASS_MARKERS[index % len(CLASS_MARKERS)]
            axes.plot(x, mean, marker=marker, markersize=5, linewidth=1.8, label=name, **style)
            axes.fill_between(x, mean - spread, mean + spread, alpha=0.12, linewidth=0, **style)
        for dashes, (name, level) in zip(PEER_DASHES[1:], levels.items(), strict=False):
            label = f"{name} {level:.1%}"
            axes.axhline(level, color=_QUIET, linestyle=dashes, linewidth=1.2, label=label)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("labels")
        axes.set_ylabel("accuracy")
        _legend(figure, axes)
        return _svg(figure)


def bars(rows: Sequence[tuple[str, float, float]], *, level: float | None, level_name: str) -> str:
    """Draw accuracies as bars with one standard deviation, the first one on top, as SVG.

    Args:
        rows: (name, mean, standard deviation).
        level: An accuracy that all are compared with, drawn across.
        level_name: What it is.
    """
    with mpl.rc_context({**_STYLE, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(7.2, 0.9 + 0.3 * max(1, len(rows))), layout="constrained")
        axes = figure.add_subplot()
        for place, (_, mean, spread) in enumerate(rows):
            axes.barh(place, mean, height=0.62, color=PEER_COLOURS[0])
            axes.errorbar(mean, place, xerr=spread, color=_INK, capsize=3, linewidth=1.2)
            axes.text(0.005, place, f"{mean:.3f}", va="center", color="white", fontsize=8)
        if level is not None:
            axes.axvline(level, color=PEER_COLOURS[1], linestyle="--", label=level_name)
            _legend(figure, axes)
        axes.set_yticks(range(len(rows)), [shorten(name) for name, _, _ in rows], color=_INK)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set_xlabel("accuracy")
        return _svg(figure)


def _peer_style(index: int) -> dict[str, Any]:
    index %= len(PEER_COLOURS)
    return {
        "color": PEER_COLOURS[index],
        "linestyle": PEER_DASHES[index],
        "marker": PEER_MARKERS[index],
    }


def confusion(counts: np.ndarray, classes: Sequence[str]) -> str:
    """Draw counts of shape (true classes, predicted classes) as shares of each true class, SVG."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    named = len(classes) <= MAX_TICK_LABELS
    side = 1.5 + (0.4 if len(classes) <= MAX_CELL_NUMBERS else 0.25) * len(classes)
    with mpl.rc_context({**_STYLE, "axes.grid": False, "axes.spines.left": False}):
        figure = Figure(figsize=(side, side) if named else (5, 5), layout="constrained")
        axes = figure.add_subplot()
        axes.spines["bottom"].set_visible(False)
        axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.6, 0, 1), interpolation="nearest")
        if len(classes) <= MAX_CELL_NUMBERS:
            _write_cells(axes, shares)
        _name_ticks(axes, classes if named else ())
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        return _svg(figure)


def _write_cells(axes: Axes, shares: np.ndarray) -> None:
    for (row, column), value in np.ndenumerate(shares):
        if value >= 0.005:  # noqa: PLR2004  # what rounds to 0 % is left empty
            colour = "white" if value > 0.4 else _INK  # noqa: PLR2004  # contrast on "Blues"
            text = f"{100 * value:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def _name_ticks(axes: Axes, classes: Sequence[str]) -> None:
    names = [shorten(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90, color=_INK)
    axes.set_yticks(range(len(names)), names, color=_INK)


def stages(matrix: Sequence[Sequence[float | None]], modalities: Sequence[str]) -> str:
    """Draw the accuracy after each stage (row) on each modality (column), as SVG.

    Args:
        matrix: What was not measured is None, and left empty.
        modalities: In the order in which they came.
    """
    values = np.array([[np.nan if one is None else one for one in row] for row in matrix], float)
    side = 1.6 + 0.62 * len(modalities)
    with mpl.rc_context({**_STYLE, "axes.grid": False, "axes.spines.left": False}):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.add_subplot()
        axes.spines["bottom"].set_visible(False)
        axes.imshow(values, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        _write_cells(axes, np.nan_to_num(values, nan=0.0))
        _name_ticks(axes, modalities)
        axes.set_xlabel("accuracy on, in percent")
        axes.set_ylabel("after stage")
        return _svg(figure)


def cloud(points: np.ndarray, labels: Sequence[str], shown: Sequence[str]) -> str:
    """Draw points of shape (images, 2) coloured by label, as PNG.

    Args:
        points: Positions on the map.
        labels: Of each point.
        shown: Labels with a colour and a shape of their own; all others are grey.
    """
    names = np.asarray([label if label in shown else OTHERS for label in labels])
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(5.2, 5.0), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        axes.spines[:].set_visible(False)
        for name in (OTHERS, *shown):
            own = points[names == name]
            if len(own) or name != OTHERS:
                axes.scatter(*own.T, **_class_style(name, shown), label=shorten(name))
        _legend(figure, axes)
        return _png(figure)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        handletextpad=0.2,
        markerscale=1.6,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)


def _class_style(name: str, shown: Sequence[str]) -> dict[str, Any]:
    if name == OTHERS:
        return {"color": _PALE, "marker": ".", "s": 9, "linewidths": 0, "alpha": 0.8}
    index = list(shown).index(name) % len(CLASS_COLOURS)
    marker = CLASS_MARKERS[index]
    size = 34 if marker == "*" else 17  # so that all look equally large
    colour = CLASS_COLOURS[index]
    return {"color": colour, "marker": marker, "s": size, "linewidths": 0, "alpha": 0.8}


def shorten(name: str, limit: int = 22) -> str:
    """Cut a class name so that it fits beside a figure."""
    name = " ".join(name.split())
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().replace("'DejaVu Sans'", _FONT.replace("'", ""))
    return data_uri("image/svg+xml", text.encode())


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=170, metadata={"Software": None})
    return data_uri("image/png", buffer.getvalue())
