"""Losses of dual-prompt learning. Pure functions; the test suite checks the shapes."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, randint

GradientMode = Literal["paper", "full", "deft"]


def scaled_similarity(
    image_features: Float[Tensor, "batch dim"],
    class_embeddings: Float[Tensor, "classes dim"],
    logit_scale: float | Float[Tensor, ""],
) -> Float[Tensor, "batch classes"]:
    """Return logits in fp32: cosine similarity times the logit scale, both sides normalised."""
    return logit_scale * image_features.float() @ class_embeddings.float().T


def positive_loss(
    positive_logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    r"""Return $L_1 = -\frac1B\sum_i \log\operatorname{softmax}(s^+_i)_{y_i}$ (CoFT Eq. 4)."""
    return F.cross_entropy(positive_logits, labels)


def dual_prompt_loss(
    positive_logits: Float[Tensor, "batch classes"],
    negative_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    complementary_labels: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    r"""Teach the negative prompt of each class to mark labels that are wrong.

    With scaled similarities $s^\pm$ and $p^\text{clean}_{ik} = \sigma(s^+_{ik} - s^-_{ik})$,

    $$L_2 = -\frac1B \sum_i \left[ \log p^\text{clean}_{i y_i}
        + \log (1 - p^\text{clean}_{i \bar y_i}) \right]$$

    where $y_i$ is the label that is believed and $\bar y_i \ne y_i$ is drawn at random. Both terms
    are log-sigmoids of a logit gap, so nothing is clamped and no gradient is lost. Gradients reach
    all that the logits depend on; `dual_logits` detaches what must not learn.

    Reference: CoFT, https://arxiv.org/abs/2602.04337, Eq. 5 and 6. Eq. 6 is printed without
    brackets around the sum, which would reward a high clean probability of wrong labels.
    """
    gap = positive_logits - negative_logits
    gap_label = gap.gather(1, labels[:, None])
    gap_complement = gap.gather(1, complementary_labels[:, None])
    return -(F.logsigmoid(gap_label) + F.logsigmoid(-gap_complement)).mean()


def dual_logits(
    image_features: Float[Tensor, "batch dim"],
    positive: Float[Tensor, "classes dim"],
    negative: Float[Tensor, "classes dim"],
    logit_scale: float | Float[Tensor, ""],
    *,
    mode: GradientMode,
) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]:
    """Return the positive and negative logits that $L_2$ sees, detached as `mode` says.

    "paper": the positive prompts do not learn from $L_2$, the negative ones and the image side do
    (CoFT 3.1.2: the negative prompt "also supervises" the visual modules). "full": everything
    learns. "deft": only the negative prompts learn, as in DeFT's public code.
    """
    if mode == "deft":
        image_features = image_features.detach()
    if mode in ("paper", "deft"):
        positive = positive.detach()
    return (
        scaled_similarity(image_features, positive, logit_scale),
        scaled_similarity(image_features, negative, logit_scale),
    )


def draw_complementary_labels(
    labels: Int[Tensor, " batch"], *, num_classes: int, generator: Generator
) -> Int[Tensor, " batch"]:
    """Draw, for each label, one of the other classes uniformly; needs two classes at least."""
    shift = randint(1, num_classes, labels.shape, generator=generator)
    shift = shift.to(labels.device, non_blocking=True)
    return (labels + shift) % num_classes
