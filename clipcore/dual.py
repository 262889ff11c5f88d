"""What is trained anew in every round, from answers and from pseudo-labels (active paper, 3.2)."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from clipcore import checkpoint, precision
from clipcore.adapters import Adapter
from clipcore.augment import random_view, view_size
from clipcore.backbone import VisualTower
from clipcore.fit import Batches, Schedule, TrainingSet, fit
from clipcore.losses import (
    GradientMode,
    draw_complementary_labels,
    dual_logits,
    dual_prompt_loss,
    positive_loss,
    scaled_similarity,
)
from clipcore.text_sides import TextSide

REDUCTION = 4


@runtime_checkable
class ImageSide(Protocol):
    """Turns what a training set holds into image features, and may learn."""

    block: int  # images that are scored at once

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what learns."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what was learned, by name."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""

    def encode(self, x: Tensor, draws: Generator | None = None) -> Tensor:
        """Return normalised features of shape (batch, dim); `draws` makes random views of them."""


class CachedFeatures(nn.Module):
    r"""Features that a frozen tower gave once, corrected by $v + U\,\text{ReLU}(Dv)$.

    The identity when new ($U = 0$). No image is seen again, so a round takes seconds. The
    correction is that of `adapters.Bottleneck`, whose place it takes when the learner is served.

    Reference: CLIP-Adapter, https://arxiv.org/abs/2110.04544, Eq. 5.
    """

    block = 1024

    def __init__(self, dim: int, *, generator: Generator, learns: bool = True) -> None:
        super().__init__()
        hidden = max(1, dim // REDUCTION)
        drawn = torch.randn(hidden, dim, generator=generator) / dim**0.5
        self.down = nn.Parameter(drawn, requires_grad=learns)
        self.up = nn.Parameter(torch.zeros(dim, hidden), requires_grad=learns)

    def tensors(self) -> dict[str, Tensor]:
        """Return the correction."""
        return dict(self.state_dict())

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.load_state_dict(tensors)

    def encode(
        self, x: Float[Tensor, "batch dim"], _draws: Generator | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Return the corrected features; there are no views of a feature."""
        return F.normalize(x + F.relu(x @ self.down.T) @ self.up.T, dim=1)


class TowerWithAdapter:
    """Pixels through a frozen tower with an adapter that learns: visual prompts, LoRA, norms."""

    block = 64

    def __init__(self, tower: VisualTower, adapter: Adapter, *, flip: bool) -> None:
        self.tower = tower
        self.parameters = adapter.parameters
        self.tensors = adapter.tensors
        self.restore = adapter.restore
        self._size = view_size(tower)
        self._flip = flip

    def encode(self, x: Tensor, draws: Generator | None = None) -> Tensor:
        """Return features of uint8 pixels, of a random view of each when draws are given."""
        y = self.tower.to_input(x)
        if draws is not None:
            y = random_view(y, generator=draws, size=self._size, flip=self._flip)
        device, convolutions = self.tower.mean.device, self.tower.kind == "timm"
        with precision.mixed(device, training=draws is not None, convolutions=convolutions):
            return self.tower.encode_input(y)


class Learner:
    """One model of a round: prompts on the text side, and an image side."""

    def __init__(self, prompts: TextSide, images: ImageSide, *, logit_scale: float) -> None:
        self.prompts = prompts
        self.images = images
        self.logit_scale = logit_scale

    def learned(self) -> Iterator[nn.Parameter]:
        """Yield what learns."""
        for parameter in (*self.prompts.parameters(), *self.images.parameters()):
            if parameter.requires_grad:
                yield parameter

    def tensors(self) -> dict[str, Tensor]:
        """Return what was learned, by name."""
        return {
            **checkpoint.prefixed("prompts", self.prompts.state_dict()),
            **checkpoint.prefixed("images", self.images.tensors()),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.prompts.load_state_dict(checkpoint.under("prompts", tensors))
        self.images.restore(checkpoint.under("images", tensors))

    @torch.inference_mode()
    def class_embeddings(self) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, "classes dim"]]:
        """Return the learned (positive, negative) embedding of every class."""
        positive, negative = self.prompts()
        return positive, negative


def mixed_batches(
    num_labeled: int, num_pseudo: int, *, labeled_batch: int = 16, pseudo_batch: int = 64
) -> Batches:
    """Return batches of so many answers and so many pseudo-labels each, as the paper trains on.

    Positions count the answers first. An epoch goes once through the kind that lasts longer, the
    other one starts over in a new order. Where one kind is empty, batches hold the other alone.
    """

    def epoch(draws: Generator) -> list[Tensor]:
        steps = max(-(-num_labeled // labeled_batch), -(-num_pseudo // pseudo_batch))
        answers = _cycle(num_labeled, labeled_batch, steps, draws)
        pseudo = _cycle(num_pseudo, pseudo_batch, steps, draws)
        return [
            torch.cat([one, num_labeled + two]) for one, two in zip(answers, pseudo, strict=True)
        ]

    return epoch


def train_learner(  # noqa: PLR0913  # each is one choice of the paper
    learner: Learner,
    optimizer: Optimizer,
    data: TrainingSet,
    schedule: Schedule,
    *,
    batches: Batches,
    epochs: range,
    dual_weight: float = 1.0,
    gradient_mode: GradientMode = "paper",
) -> Iterator[dict[str, float]]:
    r"""Minimise $L_1 + \lambda L_2$ over answers and pseudo-labels; yield epoch means (Eq. 4 to 6).

    Args:
        learner: What learns; see `Learner.learned`.
        optimizer: Over those parameters.
        data: Answers first, then pseudo-labels.
        schedule: Epochs, seed.
        batches: How the two are mixed; see `mixed_batches`.
        epochs: Which epochs of the schedule to run now.
        dual_weight: $\lambda$; with 0 nothing but weight decay moves the negative prompts.
        gradient_mode: What $L_2$ may teach; see `losses.dual_logits`.
    """
    num_classes, scale = len(learner.prompts.names), learner.logit_scale
    device = learner.prompts.names.device

    def loss_terms(x: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        labels = labels.to(device)
        other = draw_complementary_labels(labels, num_classes=num_classes, generator=draws)
        features = learner.images.encode(x.to(device), draws)
        with precision.mixed(device, training=True):
            positive, negative = learner.prompts()
        l1 = positive_loss(scaled_similarity(features, positive, scale), labels)
        logits = dual_logits(features, positive, negative, scale, mode=gradient_mode)
        l2 = dual_prompt_loss(*logits, labels, other)
        return {"loss": l1 + dual_weight * l2, "l1": l1, "l2": l2}

    yield from fit(optimizer, loss_terms, data, schedule, epochs=epochs, batches=batches)


def _cycle(count: int, batch_size: int, steps: int, draws: Generator) -> list[Tensor]:
    """Return `steps` batches that go through all positions again and again, each time anew."""
    if not count:
        return [torch.zeros(0, dtype=torch.long)] * steps
    per_round = -(-count // batch_size)
    found: list[Tensor] = []
    for _ in range(-(-steps // per_round)):
        found += torch.randperm(count, generator=draws).split(batch_size)
    return found[:steps]
