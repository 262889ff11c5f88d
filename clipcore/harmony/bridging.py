"""Cumulative modal bridging (CMB): losses that tie today to the past, and their aggregation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

TEMPERATURE = 0.1
SQUARED = 5.0  # weight of the features' part of `retention`
COVARIANCE = 10.0


def retention(
    now: Float[Tensor, "batch out"],
    before: Float[Tensor, "batch out"],
    logits_now: Float[Tensor, "batch classes"],
    logits_before: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
) -> dict[str, Float[Tensor, ""]]:
    r"""Return the parts of what keeps an earlier modality, on its historical features.

    $$L_{ret} = \text{KL}(p' \| p) + 5 \|f - f'\|^2 + \text{CE}(p, y)$$

    Args:
        now: $f$ by the trunk that learns.
        before: $f'$ by a copy of it from before this stage.
        logits_now: Of `now`.
        logits_before: Of `before`.
        labels: Classes of the samples.
    """
    said = F.log_softmax(logits_now, dim=1)
    held = F.log_softmax(logits_before, dim=1)
    return {
        "kl": F.kl_div(said, held, log_target=True, reduction="batchmean"),
        "square": SQUARED * (now - before).square().sum(dim=1).mean(),
        "cross": F.nll_loss(said, labels),
    }


def instance_alignment(
    features: Float[Tensor, "batch out"],
    labels: Int[Tensor, " batch"],
    prototypes: Float[Tensor, "classes out"],
    *,
    temperature: float = TEMPERATURE,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of features against the class means of an earlier modality."""
    return F.cross_entropy(features @ F.normalize(prototypes, dim=1).T / temperature, labels)


def distribution_alignment(
    features: Float[Tensor, "batch out"], historical: Float[Tensor, "others out"]
) -> Float[Tensor, ""]:
    """Return how far means and covariances are apart (CORAL, arXiv 1607.01719, Eq. 1)."""
    means = (features.mean(dim=0) - historical.mean(dim=0)).square().sum()
    return means + COVARIANCE * (_covariance(features) - _covariance(historical)).square().sum()


class Aggregation(nn.Module):
    r"""Attention of a feature over those that earlier branches make of the same sample.

    $$g = \sum_j a_j f_j, \quad a = \text{softmax}(q(f) \cdot k_j / \sqrt d), \quad
        \text{norm}(f + \tanh(w) g)$$

    Nothing changes while the gate $w$ is zero, which it is when new.
    """

    def __init__(self, out: int, branches: int, generator: torch.Generator) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(out, out, generator=generator) / out**0.5)
        self.keys = nn.Parameter(torch.randn(branches, out, generator=generator))
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(
        self, feature: Float[Tensor, "batch out"], branches: Sequence[Float[Tensor, "batch out"]]
    ) -> Float[Tensor, "batch out"]:
        """Return the feature with what the branches add; the last one is the feature itself."""
        weights = (feature @ self.query.T @ self.keys.T / feature.shape[1] ** 0.5).softmax(dim=1)
        added = torch.einsum("bj,bjo->bo", weights, torch.stack(list(branches), dim=1))
        return F.normalize(feature + torch.tanh(self.gate) * added, dim=1)


def _covariance(features: Tensor) -> Tensor:
    centred = features - features.mean(dim=0)
    return centred.T @ centred / max(1, len(features) - 1)
