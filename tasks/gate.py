"""Whether the adapted model may become a candidate: label-free measures, and labels if given."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Int
from torch import Tensor

from clipcore.health import Health, class_drift, judge
from tasks.progress import say
from tasks.refs import EvaluationRef, LabelsRef, ModelRef, PoolRef, PredictionsRef, Reason, Stages
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import step


@step("judge health")
def assess(
    model: ModelRef, stages: Stages, predictions: PredictionsRef, evaluation: EvaluationRef
) -> ModelRef:
    """Return the model with its health: what was measured, whether it may ship, and why not.

    Labels are never needed. Where they were given for evaluation, a model that is less accurate
    than zero-shot does not ship either.
    """
    if not stages.clean:
        return model.model_copy(update={"verdict": "Zero-shot: nothing was trained."})
    health = measure(stages.pool, stages.zero_shot, predictions, stages.clean)
    objections = judge(health)
    before, after = evaluation.zero_shot_accuracy, evaluation.accuracy
    if before is not None and after is not None and after < before:
        objections.append(f"its accuracy fell from {before:.3f} (zero-shot) to {after:.3f}")
    verdict = f"Not a candidate: {'; '.join(objections)}." if objections else "Healthy."
    say(verdict)
    found = {"health": vars(health), "healthy": not objections, "verdict": verdict}
    return model.model_copy(update=found)


def measure(
    pool: PoolRef,
    zero_shot: LabelsRef,
    predictions: PredictionsRef,
    clean: Sequence[LabelsRef],
) -> Health:
    """Measure a run without labels, streaming over the files of its stages."""
    counts = (class_counts(ref.uri, pool.classes) for ref in (zero_shot, predictions))
    drift, lost = class_drift(*counts)
    kept, all_labels, gaps = _judged(clean, pa.array(pool.classes, pa.string()))
    shares = kept.double() / torch.clamp(all_labels, min=1)
    labelled = all_labels > 0
    return Health(
        agreement=_agreement(predictions.uri),
        kept_share=float(kept.sum() / max(1, int(all_labels.sum()))),
        min_class_kept_share=float(shares[labelled].min()) if bool(labelled.any()) else 0.0,
        drift=drift,
        lost_classes=lost,
        gap_separation=gaps,
    )


def class_counts(folder: str, classes: Sequence[str]) -> Int[Tensor, " classes"]:
    """Return how many images a stage puts in each class."""
    names = pa.array(classes, pa.string())
    counts = np.zeros(len(classes), np.int64)
    for table in iter_tables(folder, ["label"]):
        numbers = pc.index_in(table["label"], names).to_numpy()
        counts += np.bincount(numbers, minlength=len(classes))
    return torch.from_numpy(counts)


def _agreement(folder: str) -> float:
    """Return the share of images that all members put in the same class."""
    same = total = 0
    for table in iter_tables(folder, ["member_labels"]):
        for row in table["member_labels"].to_pylist():
            same += len(set(row)) == 1
        total += table.num_rows
    return same / max(1, total)


def _judged(clean: Sequence[LabelsRef], classes: pa.Array) -> tuple[Tensor, Tensor, float]:
    """Return kept labels and all labels of each class, and the gap separation."""
    kept = np.zeros(len(classes), np.int64)
    labelled = np.zeros(len(classes), np.int64)
    sums = {True: [0.0, 0], False: [0.0, 0]}
    for labels in clean:
        for table in iter_tables(labels.uri, ["label", "gap", "kept", "reason"]):
            table = table.filter(pc.not_equal(table["reason"], Reason.HELD_OUT))  # noqa: PLW2901
            numbers = pc.index_in(table["label"], classes).to_numpy()
            mask = table["kept"].to_numpy()
            gap = table["gap"].to_numpy()
            labelled += np.bincount(numbers, minlength=len(classes))
            kept += np.bincount(numbers[mask], minlength=len(classes))
            for which in (True, False):
                sums[which][0] += float(gap[mask == which].sum())
                sums[which][1] += int((mask == which).sum())
    means = {which: total / count for which, (total, count) in sums.items() if count}
    separation = means[True] - means[False] if len(means) == len(sums) else 0.0
    return torch.from_numpy(kept), torch.from_numpy(labelled), separation
