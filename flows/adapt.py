"""The main job by any method: what a deployment runs, and every night."""

from prefect import flow

from flows.coft import coft
from flows.coft_plus import coft_plus
from tasks.refs import RunSummary
from tasks.specs import CoftSpec
from tasks.tracking.turns import in_turn


@flow(name="adapt")
@in_turn
def adapt(spec: CoftSpec) -> RunSummary:
    """Adapt CLIP to images without labels, or with a few, by the method that the spec names.

    Args:
        spec: Images, class names, method and settings.
    """
    return coft_plus(spec) if spec.method == "coft-plus" else coft(spec)
