"""Measures of an adapted model that need no label: agreement, kept labels, class shares."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


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
    before: Int[Tensor, " classes"], after: Int[Tensor, " classes"], *, lost_share: float
) -> tuple[float, int]:
    """Return the total variation between two class counts, and how many classes were lost.

    Args:
        before: How many images zero-shot puts in each class.
        after: How many the model does.
        lost_share: A class whose share fell below this part of its share before is lost.
    """
    one, two = _shares(before), _shares(after)
    lost = (two < lost_share * one).sum()
    return float((one - two).abs().sum() / 2), int(lost)


def _shares(counts: Int[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    return counts.double() / torch.clamp(counts.sum(), min=1)
