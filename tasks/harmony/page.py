"""The page of a state: what is left of each modality, and what is kept of it."""

from base64 import b64decode
from typing import TYPE_CHECKING, Any

from tasks.harmony.record import StateRef
from tasks.harmony.summary import HONEST, Summary
from tasks.on_demand import OnDemand
from tasks.pages.html import render
from tasks.storage.files import exists, read_json, write_bytes, write_json
from tasks.storage.uris import join

if TYPE_CHECKING:
    from tasks.harmony.compare import Comparison
    from tasks.pages import figures
else:  # when there is something to draw
    figures = OnDemand("tasks.pages.figures")

PAGE = "report.html"
COMPARISON = "comparison.json"
TEMPLATE = "harmony/state.html.j2"


def write_page(state: StateRef, found: Summary, command: str = "") -> str:
    """Write the page of a state beside its stages, and return where it is."""
    uri = join(state.uri, PAGE)
    page = render(
        TEMPLATE,
        title=f"Harmony: {state.uri.rstrip('/').rpartition('/')[2]}",
        found=found,
        figure=figures.stages(found.matrix, [one.modality for one in found.modalities]),
        honest=HONEST,
        comparison=read_comparison(state),
        command=command,
    )
    write_bytes(uri, page.encode())
    return uri


def drawn_matrix(found: Summary) -> str:
    """Return the accuracy after each stage on each modality as SVG."""
    uri = figures.stages(found.matrix, [one.modality for one in found.modalities])
    return b64decode(uri.partition(",")[2]).decode()


def write_comparison(state: StateRef, found: "Comparison") -> None:
    """Keep how other methods did, for the page."""
    write_json(join(state.uri, COMPARISON), found.model_dump(mode="json"))


def read_comparison(state: StateRef) -> dict[str, Any] | None:
    """Return how other methods did on a person's data, if they were compared."""
    uri = join(state.uri, COMPARISON)
    if not exists(uri):
        return None
    found: dict[str, Any] = read_json(uri)
    return found
