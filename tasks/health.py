"""The label-free measures of a run, streamed over the files of its stages."""

from collections.abc import Sequence

import pyarrow.compute as pc
import torch
from jaxtyping import Int
from torch import Tensor

from clipcore.health import Health, class_drift
from tasks.refs import LabelsRef, PredictionsRef, Reason, Ref
from tasks.specs import GateSpec
from tasks.storage.columns import class_numbers, tensor_of
from tasks.storage.manifest import iter_tables


def measure(
    classes: Sequence[str],
    zero_shot: LabelsRef,
    predictions: PredictionsRef,
    clean: Sequence[LabelsRef],
    bounds: GateSpec,
) -> Health:
    """Measure a run without labels."""
    drift, lost = drift_of(zero_shot, predictions, classes, bounds)
    kept, all_labels, separation = _cross_filtered(clean, classes)
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


def drift_of(
    before: Ref, after: Ref, classes: Sequence[str], bounds: GateSpec
) -> tuple[float, int]:
    """Return how far the class shares moved between two stages, and how many classes were lost."""
    counts = (class_counts(ref.uri, classes) for ref in (before, after))
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
            mask = tensor_of(table, "kept")
            total += torch.bincount(numbers, minlength=len(classes))
            kept += torch.bincount(numbers[mask], minlength=len(classes))
            sums.index_add_(0, mask.long(), tensor_of(table, "gap").double())
            counts += torch.bincount(mask.long(), minlength=2)
    means = sums / counts
    return kept, total, float(means[1] - means[0]) if bool((counts > 0).all()) else 0.0
