"""The gate: whether a model may become `candidate` or champion, decided in one place.

`coft adapt` and active rounds bring what they measured, `coft models promote` what the registry
knows. Bounds are in `GateSpec`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tasks.on_demand import OnDemand
from tasks.progress import say
from tasks.refs import EvaluationRef, ModelRef, PredictionsRef, Stages
from tasks.specs import CoftSpec, GateSpec, Spec
from tasks.storage.stage import step

if TYPE_CHECKING:
    from tasks import health
else:  # `coft models promote` decides by what the registry knows
    health = OnDemand("tasks.health")


@dataclass(frozen=True)
class Evidence:
    """What was measured of a model; None where it was not.

    Attributes:
        agreement: Share of images that both networks put in the same class.
        kept_share: Share of the pseudo-labels that were kept.
        gap_separation: Mean gap of kept minus mean gap of rejected labels.
        drift: Total variation of the class shares from zero-shot.
        lost_classes: Classes that have all but disappeared from the predictions.
        accuracy: On images with labels for evaluation.
        accuracy_before: What it has to reach: that of zero-shot, or the best one so far.
    """

    agreement: float | None = None
    kept_share: float | None = None
    gap_separation: float | None = None
    drift: float | None = None
    lost_classes: int | None = None
    accuracy: float | None = None
    accuracy_before: float | None = None

    @classmethod
    def of_health(cls, measured: Mapping[str, Any]) -> "Evidence":
        """Return the label-free measures of an adaptation as evidence."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in measured.items() if name in names})


class Comparison(Spec):
    """A version beside the champion, on the same images."""

    num_images: int
    agreement: float = Field(description="Share of images that both put in the same class.")
    drift: float = Field(description="Total variation of the class shares from the champion's.")
    lost_classes: int = Field(description="Classes that all but disappeared beside the champion.")
    num_labelled: int = Field(0, description="Images with a label that neither has learned from.")
    accuracy: float | None = None
    champion_accuracy: float | None = None
    interval: tuple[float, float] | None = Field(
        None, description="Of the difference of the accuracies, 95 %."
    )

    @property
    def text(self) -> str:
        """Return what was seen as part of a sentence."""
        if self.interval is None:
            return (
                f"agrees with the champion on {self.agreement:.0%} of {self.num_images:,} images; "
                f"class shares moved by {self.drift:.0%}"
            )
        return (
            f"accuracy {_number(self.accuracy)}, the champion {_number(self.champion_accuracy)} on "
            f"{self.num_labelled:,} labelled images; difference with 95 % between "
            f"{self.interval[0]:+.3f} and {self.interval[1]:+.3f}"
        )


@dataclass(frozen=True)
class Verdict:
    """The gate's decision: the objections, none for a healthy model."""

    objections: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Return whether nothing speaks against the model."""
        return not self.objections

    @property
    def text(self) -> str:
        """Return the decision as a sentence."""
        return "Healthy." if self.healthy else f"Not a candidate: {'; '.join(self.objections)}."


def decide(evidence: Evidence, bounds: GateSpec) -> Verdict:
    """Return what speaks against a model; what was not measured does not."""
    e = evidence
    objections = {
        f"the two networks agree on only {_percent(e.agreement)} of the images": _below(
            e.agreement, bounds.min_agreement
        ),
        f"only {_percent(e.kept_share)} of the labels were kept": _below(
            e.kept_share, bounds.min_kept_share
        ),
        "kept labels are no surer than rejected ones": _below(e.gap_separation, 0.0),
        f"the class shares moved by {_percent(e.drift)} from zero-shot": _below(
            bounds.max_drift, e.drift
        ),
        f"{e.lost_classes} classes are hardly ever predicted any more": _below(
            bounds.max_lost_classes, e.lost_classes
        ),
        f"its accuracy fell from {_number(e.accuracy_before)} to {_number(e.accuracy)}": _below(
            e.accuracy, e.accuracy_before
        ),
    }
    return Verdict(tuple(text for text, holds in objections.items() if holds))


def decide_promotion(evidence: Mapping[str, str], *, healthy: bool | None) -> Verdict:
    """Return what speaks against making a registered version champion.

    Args:
        evidence: The tags that it was registered with.
        healthy: The verdict that it was registered with; None without one.
    """
    if healthy:
        return Verdict()
    reason = "its health check failed" if healthy is False else "it has no health evidence"
    tags = "; ".join(f"{key} {value}" for key, value in evidence.items())
    return Verdict((f"{reason} ({tags})" if tags else reason,))


def decide_contest(seen: Comparison, bounds: GateSpec, *, prefer_newer: bool) -> Verdict:
    """Return what speaks against a version that was compared with the champion.

    With labels the interval of the difference decides; one that holds 0 speaks for neither, and the
    champion stays unless the newer version is preferred. Without labels two models that see
    different things in most images cannot both be right, and the champion has proved itself.
    """
    if seen.interval is not None:
        low, high = seen.interval
        worse = f"it is less often right than the champion ({seen.text})"
        chance = f"it is not surely better than the champion ({seen.text}); see --prefer-newer"
        objections = {worse: high < 0, chance: low <= 0 <= high and not prefer_newer}
    else:
        e, share = seen, _percent(seen.agreement)
        objections = {
            f"it agrees with the champion on only {share} of the images": _below(
                e.agreement, bounds.min_agreement
            ),
            f"its class shares are {_percent(e.drift)} away from the champion's": _below(
                bounds.max_drift, e.drift
            ),
            f"{e.lost_classes} classes of the champion are hardly ever predicted": _below(
                bounds.max_lost_classes, e.lost_classes
            ),
        }
    return Verdict(tuple(text for text, holds in objections.items() if holds))


@step("gate")
def assess(
    model: ModelRef,
    stages: Stages,
    predictions: PredictionsRef,
    evaluation: EvaluationRef,
    spec: CoftSpec,
) -> ModelRef:
    """Return the model with its health: what was measured, whether it may ship, and why not.

    Labels are never needed. Where they were given for evaluation, a model that is less accurate
    than zero-shot does not ship either.
    """
    if spec.method == "zero-shot":
        return model.model_copy(update={"verdict": "Zero-shot: nothing was trained."})
    classes = stages.task.classes
    if stages.clean:
        of_all = health.measure(classes, stages.zero_shot, predictions, stages.clean, spec.gate)
        measured: dict[str, float] = vars(of_all)
    else:  # nothing was cross-filtered, and one network agrees with itself
        drift, lost = health.drift_of(stages.zero_shot, predictions, classes, spec.gate)
        measured = {"drift": drift, "lost_classes": lost}
    evidence = replace(
        Evidence.of_health(measured),
        accuracy=evaluation.accuracy,
        accuracy_before=evaluation.zero_shot_accuracy,
    )
    verdict = decide(evidence, spec.gate)
    say(verdict.text)
    update = {"health": measured, "healthy": verdict.healthy, "verdict": verdict.text}
    return model.model_copy(update=update)


def _below(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value < bound


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
