"""The page of a comparison."""

from typing import TYPE_CHECKING

from tasks.compare.results import COLUMNS, Comparison, Result, cells_of, notes
from tasks.on_demand import OnDemand
from tasks.pages.html import render

if TYPE_CHECKING:
    from tasks.pages import figures
else:  # when there is something to draw
    figures = OnDemand("tasks.pages.figures")

TEMPLATE = "compare/compare.html.j2"


def page_of(found: Comparison) -> str:
    """Return a comparison as one HTML file that needs no other file."""
    names = list(dict.fromkeys(one.balance for one in found.results))
    own = {name: [one for one in found.results if one.balance == name] for name in names}
    return render(
        TEMPLATE,
        title=f"Methods side by side: {found.origin}",
        found=found,
        best=found.best,
        balances=[(name, own[name], figure_of(own[name])) for name in names],
        head=[COLUMNS[0], *COLUMNS[2:]],
        rows={name: [cells_of(one) for one in own[name]] for name in names},
        notes=notes(found),
    )


def figure_of(results: list[Result]) -> str:
    """Return the accuracies of methods at one balance, drawn as an SVG in a data URI."""
    measured = [
        (one.method, one.accuracy, one.spread) for one in results if one.accuracy is not None
    ]
    zero_shot = {one.method: one.accuracy for one in results}.get("zero-shot")
    return figures.bars(measured, level=zero_shot, level_name="zero-shot")
