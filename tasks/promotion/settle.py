"""What comes of a comparison: the version is promoted or not, and it carries the reason."""

from pydantic import Field

from tasks.gate import Comparison, Verdict, decide_contest, decide_promotion
from tasks.progress import say
from tasks.promotion.contenders import Contenders
from tasks.promotion.specs import PromotionSpec
from tasks.specs import Spec
from tasks.storage.stage import step
from tasks.tracking.champion import promote
from tasks.tracking.registration import add_evidence
from tasks.tracking.store import tracking_for
from tasks.tracking.versions import find_version


class Decision(Spec):
    """Whether a version became champion, and why."""

    name: str
    version: str | None
    champion: str | None = Field(description="Afterwards.")
    promoted: bool
    verdict: str
    comparison: Comparison | None = None


@step("promote", retries=0)
def settle(found: Contenders, comparison: Comparison | None, spec: PromotionSpec) -> Decision:
    """Write what was seen to the version, and promote it if nothing speaks against it.

    Raises:
        Overtaken: somebody else has changed the champion since the comparison.
    """
    if found.version is None or found.version == found.champion:
        why = "there is no candidate" if found.version is None else "it is the champion already"
        return _told(found, comparison, Verdict((why,)), champion=found.champion)
    tracking = tracking_for(spec.runtime.workspace)
    model = find_version(tracking, found.name, found.version)
    verdict = decide_promotion(model.evidence, healthy=model.healthy)
    if comparison is not None:
        contest = decide_contest(comparison, spec.gate, prefer_newer=spec.prefer_newer)
        verdict = Verdict((*verdict.objections, *contest.objections))
    add_evidence(tracking, model, {"gate": _evidence(found, comparison, verdict)})
    if not verdict.healthy and not spec.force:
        return _told(found, comparison, verdict, champion=found.champion)
    force, instead_of = spec.force, found.champion or ""
    promote(tracking, found.name, found.version, force=force, instead_of=instead_of)
    return _told(found, comparison, verdict, champion=found.version)


def _told(
    found: Contenders, comparison: Comparison | None, verdict: Verdict, *, champion: str | None
) -> Decision:
    promoted = champion == found.version != found.champion
    instead = f" instead of version {found.champion}" if found.champion else ""
    said = f"Version {found.version} is the champion{instead}" if promoted else "Not promoted"
    why = "; ".join(verdict.objections) or (comparison.text if comparison else "healthy")
    decision = Decision(
        name=found.name,
        version=found.version,
        champion=champion,
        promoted=promoted,
        verdict=f"{said}: {why}.",
        comparison=comparison,
    )
    say(decision.verdict)
    return decision


def _evidence(
    found: Contenders, comparison: Comparison | None, verdict: Verdict
) -> dict[str, object]:
    seen = {} if comparison is None else comparison.model_dump(exclude_none=True)
    if "interval" in seen:
        seen["interval"] = " to ".join(f"{bound:+.4f}" for bound in seen["interval"])
    passed = "; ".join(verdict.objections) or "passed"
    return {"champion": found.champion or "none", **seen, "verdict": passed}
