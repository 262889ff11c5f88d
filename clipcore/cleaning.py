"""Which pseudo-labels to believe: the logit gap, top-K per class, the cross-filter of two peers."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def label_gap(
    image_features: Float[Tensor, "samples dim"],
    positive: Float[Tensor, "classes dim"],
    negative: Float[Tensor, "classes dim"],
    labels: Int[Tensor, " samples"],
) -> Float[Tensor, " samples"]:
    """Return $s^+ - s^-$ at each sample's label, as a cosine: no logit scale, no saturation."""
    return (image_features * (positive - negative)[labels]).sum(dim=1)


def top_k_per_class(
    confidence: Float[Tensor, " samples"],
    labels: Int[Tensor, " samples"],
    *,
    num_classes: int,
    per_class: int,
) -> Int[Tensor, " chosen"]:
    """Return positions of the most confident samples of each class, at most `per_class` of each.

    Each sample stands under its own label only, so none is chosen twice. Equal confidences go to
    the earlier sample. The order is by class, then by falling confidence.
    """
    order = torch.argsort(confidence, descending=True, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    counts = torch.bincount(labels, minlength=num_classes)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(order), device=order.device) - starts[labels[order]]
    return order[rank < per_class]


def resolve_per_class(per_class: int, *, num_classes: int, minimum_total: int) -> int:
    """Return K, raised so that Phase I sees at least `minimum_total` images over all classes."""
    return max(per_class, -(-minimum_total // num_classes))


def cross_filter(other_gap: Float[Tensor, " samples"]) -> Bool[Tensor, " samples"]:
    r"""Keep what the other peer holds to be clean: $s^+_j > s^-_j$ at peer i's label.

    The same as $p^\text{clean}_j > 0.5$ for any logit scale (CoFT 3.2), so there is no threshold.
    """
    return other_gap > 0
