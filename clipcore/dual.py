"""Dual-prompt learning: positive and negative prompts beside an image side (CoFT Eq. 4 to 6).

The peers of CoFT's Phase I learn in this way through the tower, the learners of active rounds
through the tower or on cached features.
"""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from clipcore import checkpoint, precision
from clipcore.fit import Batches, Schedule, TrainingSet, fit
from clipcore.head import DualHead, Head
from clipcore.image_sides import ImageSide
from clipcore.losses import (
    GradientMode,
    draw_complementary_labels,
    dual_logits,
    dual_prompt_loss,
    positive_loss,
    scaled_similarity,
)
from clipcore.text_sides import TextSide


class DualLearner:
    """A model with class embeddings of both signs on the text side, and an image side."""

    def __init__(self, prompts: TextSide, images: ImageSide, *, logit_scale: float) -> None:
        self.prompts = prompts
        self.images = images
        self.logit_scale = logit_scale

    @property
    def device(self) -> torch.device:
        """Return where the class embeddings are made."""
        return self.prompts.names.device

    def learned(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that training updates; nothing of CLIP's own is among them."""
        for parameter in (*self.prompts.parameters(), *self.images.parameters()):
            if parameter.requires_grad:
                yield parameter

    def tensors(self) -> dict[str, Tensor]:
        """Return the learned tensors, as `prompts.NAME` and under the image side's name."""
        return {
            **checkpoint.prefixed("prompts", self.prompts.state_dict()),
            **checkpoint.prefixed(self.images.name, self.images.tensors()),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.prompts.load_state_dict(checkpoint.under("prompts", tensors))
        self.images.restore(checkpoint.under(self.images.name, tensors))

    @torch.inference_mode()
    def head(self) -> DualHead:
        """Return the learned class embeddings of both signs, without gradients."""
        positive, negative = self.prompts()
        return DualHead(Head(positive, self.logit_scale), negative)


def loss_terms(
    learner: DualLearner,
    x: Tensor,
    labels: Tensor,
    draws: Generator,
    *,
    dual_weight: float,
    gradient_mode: GradientMode,
) -> dict[str, Tensor]:
    r"""Return $L_1 + \lambda L_2$ and both terms for one batch (CoFT Eq. 4 to 6).

    Both signs of all prompts are encoded once.

    Args:
        learner: The model.
        x: What its image side encodes.
        labels: Class numbers that are believed.
        draws: Random numbers of complementary labels, then of views.
        dual_weight: $\lambda$; with 0 nothing but weight decay moves the negative prompts.
        gradient_mode: What $L_2$ may teach; see `losses.dual_logits`.
    """
    num_classes, scale = len(learner.prompts.names), learner.logit_scale
    labels = labels.to(learner.device, non_blocking=True)
    other = draw_complementary_labels(labels, num_classes=num_classes, generator=draws)
    features = learner.images.encode(x.to(learner.device, non_blocking=True), draws)
    with precision.mixed(learner.device, training=True):
        positive, negative = learner.prompts()
    l1 = positive_loss(scaled_similarity(features, positive, scale), labels)
    logits = dual_logits(features, positive, negative, scale, mode=gradient_mode)
    l2 = dual_prompt_loss(*logits, labels, other)
    return {"loss": l1 + dual_weight * l2, "l1": l1, "l2": l2}


def train(  # noqa: PLR0913  # each is one choice of the paper
    learner: DualLearner,
    optimizer: Optimizer,
    data: TrainingSet,
    schedule: Schedule,
    *,
    epochs: range,
    batches: Batches | None = None,
    dual_weight: float = 1.0,
    gradient_mode: GradientMode = "paper",
) -> Iterator[dict[str, float]]:
    """Minimise `loss_terms` over the data; yield the mean of each term after every epoch.

    Args:
        learner: What learns; see `DualLearner.learned`.
        optimizer: Over those parameters.
        data: Inputs of the image side, and the labels that they are believed to have.
        schedule: Epochs, batch size, seed.
        epochs: Which epochs of the schedule to run now.
        batches: Which samples go together; see `fit.fit`.
        dual_weight: See `loss_terms`.
        gradient_mode: See `loss_terms`.
    """

    def terms(x: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        return loss_terms(
            learner, x, labels, draws, dual_weight=dual_weight, gradient_mode=gradient_mode
        )

    yield from fit(optimizer, terms, data, schedule, epochs=epochs, batches=batches)
