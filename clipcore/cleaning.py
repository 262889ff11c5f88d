"""Which pseudo-labels to believe: the logit gap, top-K per class, the cross-filter of two peers."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def clean_probability(
    positive_logits: Float[Tensor, "*shape"], negative_logits: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    r"""Return $p^\text{clean} = \sigma(s^+ - s^-)$, the two-way softmax of CoFT Eq. 5.

    It saturates: at a logit scale of 100 a cosine gap of 0.2 is 1.0 in fp32. Rank by the gap.
    """
    return torch.sigmoid(positive_logits - negative_logits)


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


def rescue_small_classes(
    labels: Int[Tensor, " samples"],
    gap: Float[Tensor, " samples"],
    kept: Bool[Tensor, " samples"],
    *,
    num_classes: int,
    min_kept: int,
) -> Bool[Tensor, " samples"]:
    """Return `kept` with, for classes that kept fewer than `min_kept`, their highest gaps added."""
    rescued = kept.clone()
    counts = torch.bincount(labels[kept], minlength=num_classes)
    for label in torch.nonzero(counts < min_kept).flatten().tolist():
        own = torch.nonzero(labels == label).flatten()
        best = torch.argsort(gap[own], descending=True, stable=True)[:min_kept]
        rescued[own[best]] = True
    return rescued
