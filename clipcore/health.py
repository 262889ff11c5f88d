"""Whether an adapted model may be shipped, from what can be known without labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

MIN_AGREEMENT = 0.5  # two networks that agree on less learned noise
MAX_DRIFT = 0.4  # total variation between class shares: more is a collapse to few classes
MIN_KEPT_SHARE = 0.1  # of the pool; less was trained on too little to be called adapted
LOST_SHARE = 0.1  # a class predicted for less than this part of its zero-shot share is lost


@dataclass(frozen=True)
class Health:
    """Label-free measures of one adaptation.

    Attributes:
        agreement: Share of images that both networks put in the same class.
        kept_share: Share of the pool whose label was kept, mean of both peers.
        min_class_kept_share: The same for the class that kept least of what it was predicted for.
        drift: Total variation distance between the class shares of zero-shot and of the model.
        lost_classes: How many classes have all but disappeared from the predictions.
        gap_separation: Mean gap of kept minus mean gap of rejected labels, as a cosine.
    """

    agreement: float
    kept_share: float
    min_class_kept_share: float
    drift: float
    lost_classes: int
    gap_separation: float


def class_drift(
    before: Int[Tensor, " classes"], after: Int[Tensor, " classes"]
) -> tuple[float, int]:
    """Return the total variation between two class counts, and how many classes were lost."""
    one, two = _shares(before), _shares(after)
    lost = (two < LOST_SHARE * one).sum()
    return float((one - two).abs().sum() / 2), int(lost)


def judge(health: Health) -> list[str]:
    """Return what speaks against shipping the model, in sentences; nothing if it is healthy."""
    objections: Mapping[str, bool] = {
        f"the two networks agree on only {health.agreement:.0%} of the images": health.agreement
        < MIN_AGREEMENT,
        f"only {health.kept_share:.0%} of the labels were kept": health.kept_share < MIN_KEPT_SHARE,
        "kept labels are no surer than rejected ones": health.gap_separation < 0,
    }
    found = [text for text, holds in objections.items() if holds]
    return [*found, *judge_shares(health.drift, health.lost_classes)]


def judge_shares(drift: float, lost_classes: int) -> list[str]:
    """Return what speaks against a model by how often it predicts each class; see `class_drift`."""
    found = []
    if drift > MAX_DRIFT:
        found.append(f"the class shares moved by {drift:.0%} from zero-shot")
    if lost_classes:
        found.append(f"{lost_classes} classes are hardly ever predicted any more")
    return found


def _shares(counts: Int[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    return counts.double() / torch.clamp(counts.sum(), min=1)
