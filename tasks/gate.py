"""The gate: whether a model may become `candidate` or champion, decided in one place.

`coft adapt` and active rounds bring what they measured, `coft models promote` what the registry
knows. Bounds are in `GateSpec`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import pyarrow.compute as pc
import torch
from jaxtyping import Int
from torch import Tensor

from clipcore.health import Health, class_drift
from tasks.progress import say
from tasks.refs import (
    EvaluationRef,
    LabelsRef,
    ModelRef,
    PoolRef,
    PredictionsRef,
    Reason,
    Ref,
    Stages,
)
from tasks.specs import CoftSpec, GateSpec
from tasks.storage.columns import class_numbers, tensor_of
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import step


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
    def of_health(cls, health: Health) -> "Evidence":
        """Return the label-free measures of an adaptation as evidence."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in vars(health).items() if name in names})


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
    if not stages.clean:
        return model.model_copy(update={"verdict": "Zero-shot: nothing was trained."})
    health = measure(stages.pool, stages.zero_shot, predictions, stages.clean, spec.gate)
    evidence = replace(
        Evidence.of_health(health),
        accuracy=evaluation.accuracy,
        accuracy_before=evaluation.zero_shot_accuracy,
    )
    verdict = decide(evidence, spec.gate)
    say(verdict.text)
    update = {"health": vars(health), "healthy": verdict.healthy, "verdict": verdict.text}
    return model.model_copy(update=update)


def measure(
    pool: PoolRef,
    zero_shot: LabelsRef,
    predictions: PredictionsRef,
    clean: Sequence[LabelsRef],
    bounds: GateSpec,
) -> Health:
    """Measure a run without labels, streaming over the files of its stages."""
    drift, lost = drift_of(zero_shot, predictions, pool, bounds)
    kept, all_labels, separation = _cross_filtered(clean, pool.classes)
    shares = kept.double() / torch.clamp(all_labels, min=1)
    labelled = all_labels > 0
    return Health(
        agreement=_agreement(predictions.uri),
        kept_share=float(kept.sum() / max(1, int(all_labels.sum()))),
        min_class_kept_share=float(shares[labelled].min()) if bool(labelled.any()) else 0.0,
        drift=drift,
        lost_classes=lost,
        gap_separation=separation,
    )


def drift_of(before: Ref, after: Ref, pool: PoolRef, bounds: GateSpec) -> tuple[float, int]:
    """Return how far the class shares moved between two stages, and how many classes were lost."""
    counts = (class_counts(ref.uri, pool.classes) for ref in (before, after))
    return class_drift(*counts, lost_share=bounds.lost_share)


def class_counts(folder: str, classes: Sequence[str]) -> Int[Tensor, " classes"]:
    """Return how many images a stage puts in each class."""
    counts = torch.zeros(len(classes), dtype=torch.long)
    for table in iter_tables(folder, ["label"]):
        counts += torch.bincount(class_numbers(classes, table["label"]), minlength=len(classes))
    return counts


def _agreement(folder: str) -> float:
    """Return the share of images that all members put in the same class."""
    same = total = 0
    for table in iter_tables(folder, ["member_labels"]):
        if table.num_rows:
            flat = table["member_labels"].combine_chunks().flatten()
            members = flat.to_numpy(zero_copy_only=False).reshape(table.num_rows, -1)
            same += int((members == members[:, :1]).all(axis=1).sum())
            total += table.num_rows
    return same / max(1, total)


def _cross_filtered(
    clean: Sequence[LabelsRef], classes: Sequence[str]
) -> tuple[Int[Tensor, " classes"], Int[Tensor, " classes"], float]:
    """Return kept labels and all labels of each class, and the gap separation."""
    kept = torch.zeros(len(classes), dtype=torch.long)
    total = torch.zeros(len(classes), dtype=torch.long)
    sums, counts = torch.zeros(2, dtype=torch.double), torch.zeros(2, dtype=torch.long)
    for labels in clean:
        for table in iter_tables(labels.uri, ["label", "gap", "kept", "reason"]):
            table = table.filter(pc.not_equal(table["reason"], Reason.HELD_OUT))  # noqa: PLW2901
            numbers = class_numbers(classes, table["label"])
            mask = torch.from_numpy(table["kept"].to_numpy().copy())
            total += torch.bincount(numbers, minlength=len(classes))
            kept += torch.bincount(numbers[mask], minlength=len(classes))
            sums.index_add_(0, mask.long(), tensor_of(table, "gap").double())
            counts += torch.bincount(mask.long(), minlength=2)
    means = sums / counts
    return kept, total, float(means[1] - means[0]) if bool((counts > 0).all()) else 0.0


def _below(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value < bound


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
