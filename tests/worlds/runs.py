"""MLflow runs of a flow that is made up."""

from tasks.tracking.runs import Run, start_run
from tasks.tracking.store import Tracking


def open_run(tracking: Tracking, digest: str = "d" * 16, **params: object) -> Run:
    """Start, or continue, the run of a flow with this digest."""
    return start_run(tracking, experiment="coft", name="pets", digest=digest, params=params)
