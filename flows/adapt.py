"""The main job by any method: what a deployment runs, and every night."""

from prefect import flow

from flows.baseline import baseline
from flows.coft import coft
from flows.coft_plus import coft_plus
from tasks.plan.facts import Plan
from tasks.refs import RunSummary
from tasks.specs import CoftSpec
from tasks.tracking.turns import in_turn

FLOWS = {"coft": coft, "zero-shot": coft, "coft-plus": coft_plus}


@flow(name="adapt")
@in_turn
def adapt(spec: CoftSpec) -> RunSummary:
    """Adapt CLIP to images without labels, or with a few, by the method that the spec names.

    Args:
        spec: Images, class names, method and settings.
    """
    return adapted(spec)


def adapted(spec: CoftSpec, plan: Plan | None = None) -> RunSummary:
    """Run the flow of the method that the spec names."""
    return FLOWS.get(spec.method, baseline)(spec, plan)
