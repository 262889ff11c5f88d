"""Phase I: dual prompts and a light adapter, on images whose labels are trusted (CoFT 3.1)."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from clipcore import checkpoint, precision
from clipcore.adapters import Adapter
from clipcore.augment import random_view, view_size
from clipcore.backbone import Backbone
from clipcore.fit import Schedule, TrainingSet, fit
from clipcore.losses import (
    GradientMode,
    draw_complementary_labels,
    dual_logits,
    dual_prompt_loss,
    positive_loss,
    scaled_similarity,
)
from clipcore.prompts import DualPrompts


class Peer(nn.Module):
    """One of the two models that judge each other: a frozen CLIP, dual prompts and an adapter."""

    def __init__(self, backbone: Backbone, prompts: DualPrompts, adapter: Adapter) -> None:
        super().__init__()
        self.backbone = backbone
        self.prompts = prompts
        self.adapter = adapter

    def learned(self) -> Iterator[nn.Parameter]:
        """Yield what Phase I trains: both contexts and the adapter, nothing of CLIP's own."""
        yield from self.prompts.parameters()
        yield from self.adapter.parameters()

    def image_features(
        self, pixels: UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch dim"]:
        """Return normalised features of images as they are, seen through the adapter."""
        features: Tensor = self.backbone.visual(pixels)
        return features

    def tensors(self) -> dict[str, Tensor]:
        """Return what was learned, by name."""
        return {
            **checkpoint.prefixed("prompts", self.prompts.state_dict()),
            **checkpoint.prefixed("adapter", self.adapter.tensors()),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.prompts.load_state_dict(checkpoint.under("prompts", tensors))
        self.adapter.restore(checkpoint.under("adapter", tensors))


def train_peer(  # noqa: PLR0913  # each is one choice of the paper
    peer: Peer,
    optimizer: Optimizer,
    data: TrainingSet,
    schedule: Schedule,
    *,
    dual_weight: float = 1.0,
    gradient_mode: GradientMode = "paper",
    flip: bool = True,
    epochs: range,
) -> Iterator[dict[str, float]]:
    r"""Minimise $L_1 + \lambda L_2$ over the confident set (CoFT Eq. 4 to 6); yield epoch means.

    Both signs of all prompts are encoded once per step. Running statistics of the backbone's norms
    stay as they are: it remains in evaluation mode.

    Args:
        peer: What learns; see `Peer.learned`.
        optimizer: Over those parameters.
        data: The confident set.
        schedule: Epochs, batch size, seed.
        dual_weight: $\lambda$.
        gradient_mode: What $L_2$ may teach; see `losses.dual_logits`.
        flip: Whether a mirrored image shows the same class.
        epochs: Which epochs of the schedule to run now.
    """
    num_classes = len(peer.prompts.names)
    scale = peer.backbone.logit_scale

    size = view_size(peer.backbone.visual)

    def loss_terms(pixels: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        device = peer.backbone.device
        labels = labels.to(device)
        other = draw_complementary_labels(labels, num_classes=num_classes, generator=draws)
        x = random_view(
            peer.backbone.visual.to_input(pixels), generator=draws, size=size, flip=flip
        )
        convolutions = peer.backbone.visual.kind == "timm"
        with precision.mixed(device, training=True, convolutions=convolutions):
            features = peer.backbone.visual.encode_input(x)
        with precision.mixed(device, training=True):
            positive, negative = peer.prompts()
        l1 = positive_loss(scaled_similarity(features, positive, scale), labels)
        l2 = dual_prompt_loss(
            *dual_logits(features, positive, negative, scale, mode=gradient_mode), labels, other
        )
        return {"loss": l1 + dual_weight * l2, "l1": l1, "l2": l2}

    yield from fit(optimizer, loss_terms, data, schedule, epochs=epochs)


@torch.inference_mode()
def class_embeddings(peer: Peer) -> tuple[Tensor, Tensor]:
    """Return the learned (positive, negative) class embeddings, each of shape (classes, dim)."""
    positive, negative = peer.prompts()
    return positive, negative
