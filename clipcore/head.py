"""A linear head over normalised image features: class embeddings, a logit scale and a bias."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipcore.cleaning import label_gap
from clipcore.losses import scaled_similarity


@dataclass(frozen=True)
class Head:
    """What turns image features into class probabilities.

    Attributes:
        embeddings: One vector for each class; normalised where they come from a text tower.
        logit_scale: 1 / temperature.
        bias: Added to the logits; none for class embeddings of texts.
    """

    embeddings: Float[Tensor, "classes dim"]
    logit_scale: float
    bias: Float[Tensor, " classes"] | None = None

    @classmethod
    def of_linear(cls, linear: nn.Linear) -> "Head":
        """Return a linear layer as a head; its mean row norm becomes the logit scale."""
        weight = linear.weight.detach()
        scale = float(weight.norm(dim=1).mean())
        return cls(weight / scale, scale, linear.bias.detach())

    def logits(self, features: Float[Tensor, "samples dim"]) -> Float[Tensor, "samples classes"]:
        """Return fp32 logits."""
        logits = scaled_similarity(features, self.embeddings, self.logit_scale)
        return logits if self.bias is None else logits + self.bias

    def probabilities(
        self, features: Float[Tensor, "samples dim"]
    ) -> Float[Tensor, "samples classes"]:
        """Return the softmax of the logits (CoFT Eq. 1)."""
        return self.logits(features).softmax(dim=1)

    def predict(
        self, features: Float[Tensor, "samples dim"]
    ) -> tuple[Int[Tensor, " samples"], Float[Tensor, " samples"]]:
        """Return the most probable class of each image, and its probability."""
        confidence, labels = self.probabilities(features).max(dim=1)
        return labels, confidence


@dataclass(frozen=True)
class DualHead:
    """The class embeddings of both signs that dual prompts end in.

    Attributes:
        positive: The head that predicts.
        negative: Normalised embeddings of "this is not the class".
    """

    positive: Head
    negative: Float[Tensor, "classes dim"]

    def gap(
        self, features: Float[Tensor, "samples dim"], labels: Int[Tensor, " samples"]
    ) -> Float[Tensor, " samples"]:
        """Return the logit gap at each sample's label, as a cosine; see `cleaning.label_gap`."""
        return label_gap(features, self.positive.embeddings, self.negative, labels)

    def clean_probability(self, gap: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
        r"""Return $p^\text{clean} = \sigma(s^+ - s^-)$ of logit gaps (CoFT Eq. 5).

        It saturates: at a logit scale of 100 a gap of 0.2 is 1.0 in fp32. Rank by the gap.
        """
        return torch.sigmoid(self.positive.logit_scale * gap)
