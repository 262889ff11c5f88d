r"""Consistency on images whose labels are not used: a slow teacher labels them for the student.

The teacher is a moving average of the network. It sees an image as it is, the student a view with
other colours and a hole: where the teacher is sure, both should say the same. The teacher takes as
much memory as the network.

References: Mean Teacher, https://arxiv.org/abs/1703.01780; FixMatch,
https://arxiv.org/abs/2001.07685; MUST, https://arxiv.org/abs/2206.02967.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor

from clipcore.augment import masked_view, view_size
from clipcore.checkpoint import prefixed, under
from clipcore.ema import MovingAverage
from clipcore.network import Network, encode_in_training, quick_in_training

SMALLEST_SHARE = 1e-4  # of a class that is hardly ever predicted: it is not raised without bound


def align(
    posteriors: Float[Tensor, "batch classes"],
    shares: Float[Tensor, " classes"],
    prior: Float[Tensor, " classes"],
) -> Float[Tensor, "batch classes"]:
    r"""Return posteriors whose classes are as frequent as the prior says.

    $$\tilde p_{ic} = \frac{p_{ic} \pi_c / \bar p_c}{\sum_k p_{ik} \pi_k / \bar p_k}$$

    with $\bar p$ the mean posterior until now. The prior must not be uniform where classes are not.

    Reference: ReMixMatch, https://arxiv.org/abs/1911.09785, section 3.1.
    """
    factors = prior.clamp(min=SMALLEST_SHARE) / shares.clamp(min=SMALLEST_SHARE)
    aligned = posteriors * factors
    return aligned / aligned.sum(dim=1, keepdim=True)


def class_thresholds(
    confidence: Float[Tensor, ""], shares: Float[Tensor, " classes"]
) -> Float[Tensor, " classes"]:
    r"""Return the confidence that a label of each class needs: less for classes that are rarer.

    $$\tau_c = \tau \bar p_c / \max_k \bar p_k$$

    with $\tau$ the mean confidence and $\bar p$ the mean posterior until now.

    Reference: FreeMatch, https://arxiv.org/abs/2205.07246, Eq. 5 to 7.
    """
    return confidence * shares / shares.max()


def consistency_loss(
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    is_sure: Bool[Tensor, " batch"],
) -> Float[Tensor, ""]:
    r"""Return the cross-entropy of labels that are sure, over the whole batch (FixMatch Eq. 4).

    $$L_u = -\frac1B \sum_i m_i \log \operatorname{softmax}(z_i)_{\hat y_i}$$
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (losses * is_sure).mean()


class Consistency:
    """What a teacher is sure of, for a student who sees less, beside Phase II's cross-entropy."""

    name = "consistency"

    def __init__(  # noqa: PLR0913  # each is one choice of the papers
        self,
        network: Network,
        *,
        prior: Float[Tensor, " classes"],
        weight: float = 1.0,
        momentum: float = 0.99,
        threshold: float = 0.8,
        per_class: bool = False,
        flip: bool = True,
        colours: bool = True,
    ) -> None:
        """Start with a teacher that is the network, and class shares that are the prior.

        Args:
            network: The student.
            prior: How frequent the classes are believed to be.
            weight: Of the loss beside the cross-entropy.
            momentum: Of the teacher, the class shares and the mean confidence.
            threshold: Confidence from which the teacher is believed.
            per_class: Whether it is only where the mean confidence starts; see `class_thresholds`.
            flip: Whether a mirrored image shows the same class.
            colours: Whether views may change colours; not where these tell classes apart.
        """
        self.weight = weight
        device = network.head.weight.device
        self._network = network
        self._average = MovingAverage(network, momentum=momentum)
        self._encoder = quick_in_training(self._average.module.visual)
        self._prior = prior.to(device)
        self._shares = self._prior.clone()
        self._confidence = torch.tensor(threshold, device=device)
        self._per_class = per_class
        self._size, self._flip, self._colours = view_size(network.visual), flip, colours
        self._labels = torch.zeros(0, dtype=torch.long, device=device)
        self._is_sure = torch.zeros(0, dtype=torch.bool, device=device)

    @property
    def teacher(self) -> Network:
        """Return the moving average of the network."""
        return self._average.module

    @property
    def share_sure(self) -> float:
        """Return of how many images of the last batch the teacher is sure."""
        return float(self._is_sure.float().mean())

    def view(
        self, pixels: UInt8[Tensor, "batch height width 3"], draws: Generator
    ) -> Float[Tensor, "batch 3 size size"]:
        """Let the teacher label a batch, and return the input of which `loss` gets the features.

        Before that the teacher takes in what the last step changed.
        """
        visual = self._network.visual
        x = visual.to_input(pixels)
        self._average.update(self._network)
        self._take(self._posteriors(x))
        return masked_view(
            x,
            visual.preprocess,
            generator=draws,
            size=self._size,
            flip=self._flip,
            colours=self._colours,
        )

    def loss(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
        """Return the student's loss for the last batch; 0 where the teacher is sure of none."""
        return consistency_loss(self._network.logits(features), self._labels, self._is_sure)

    def tensors(self) -> dict[str, Tensor]:
        """Return the teacher and the running means, for a checkpoint."""
        means = {"shares": self._shares, "confidence": self._confidence}
        return {**prefixed("teacher", self._average.tensors()), **means}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self._average.restore(under("teacher", tensors))
        self._shares.copy_(tensors["shares"])
        self._confidence.copy_(tensors["confidence"])

    @torch.no_grad()
    def _posteriors(self, x: Tensor) -> Tensor:
        """Return the teacher's class probabilities of images as they are."""
        return self.teacher.logits(encode_in_training(self._encoder, x)).softmax(dim=1)

    def _take(self, posteriors: Tensor) -> None:
        """Take posteriors into the running means, and keep the labels with those that are sure."""
        rate = 1 - self._average.momentum
        self._shares.lerp_(posteriors.mean(dim=0), rate)
        confidence, self._labels = align(posteriors, self._shares, self._prior).max(dim=1)
        if self._per_class:
            self._confidence.lerp_(confidence.mean(), rate)
            thresholds = class_thresholds(self._confidence, self._shares)[self._labels]
        else:
            thresholds = self._confidence
        self._is_sure = confidence >= thresholds
