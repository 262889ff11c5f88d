"""Phase II: the whole visual tower and a linear head, on labels that were kept (CoFT 3.2)."""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from clipcore import precision
from clipcore.augment import random_view, view_size
from clipcore.backbone import VisualTower
from clipcore.fit import Schedule, TrainingSet, fit

NormStatistics = Literal["frozen", "updated"]


class Network(nn.Module):
    """A visual tower with a linear head on its normalised features."""

    def __init__(self, visual: VisualTower, *, num_classes: int, dim: int) -> None:
        super().__init__()
        self.visual = visual
        self.head = nn.Linear(dim, num_classes)

    def forward(
        self, pixels: UInt8[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch classes"]:
        """Return fp32 logits."""
        return self.logits(self.visual(pixels))

    def logits(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """Return the head's fp32 logits for normalised features."""
        return F.linear(features.float(), self.head.weight, self.head.bias)


def new_network(
    visual: VisualTower, class_embeddings: Float[Tensor, "classes dim"], logit_scale: float
) -> Network:
    r"""Return a network that predicts, before any training, as CLIP with these class embeddings.

    The tower has its original weights; the head is $W = T^+ / \tau$, $b = 0$.
    """
    num_classes, dim = class_embeddings.shape
    network = Network(visual, num_classes=num_classes, dim=dim).to(class_embeddings.device)
    with torch.no_grad():
        network.head.weight.copy_(logit_scale * class_embeddings)
        network.head.bias.zero_()
    return network


def parameter_groups(
    network: Network, *, learning_rate: float, head_learning_rate: float
) -> list[dict[str, object]]:
    """Return the whole tower and the head as optimizer groups with their learning rates."""
    network.requires_grad_(requires_grad=True)
    return [
        {"params": list(network.visual.parameters()), "lr": learning_rate},
        {"params": list(network.head.parameters()), "lr": head_learning_rate},
    ]


def train_network(  # noqa: PLR0913  # each is one choice of the paper
    network: Network,
    optimizer: Optimizer,
    data: TrainingSet,
    schedule: Schedule,
    *,
    norm_statistics: NormStatistics = "frozen",
    flip: bool = True,
    epochs: range,
) -> Iterator[dict[str, float]]:
    """Minimise plain cross-entropy over the clean set (CoFT Eq. 7); yield the mean of each epoch.

    `norm_statistics="frozen"` keeps the running mean and variance of batch norms: on a few thousand
    images with wrong labels among them, updating them costs more than it gives.
    """
    device = network.head.weight.device
    network.train()
    if norm_statistics == "frozen":
        freeze_norm_statistics(network)

    size = view_size(network.visual)

    def loss_terms(pixels: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        x = random_view(network.visual.to_input(pixels), generator=draws, size=size, flip=flip)
        convolutions = network.visual.kind == "timm"
        with precision.mixed(device, training=True, convolutions=convolutions):
            features = network.visual.encode_input(x)
        return {"loss": F.cross_entropy(network.logits(features), labels.to(device))}

    yield from fit(optimizer, loss_terms, data, schedule, epochs=epochs)
    network.eval()


def freeze_norm_statistics(network: nn.Module) -> None:
    """Put every batch norm in evaluation mode; its scale and shift still learn."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  # their base class
            module.eval()


def interpolate(
    start: Mapping[str, Tensor], end: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    r"""Return $(1 - \alpha)\,\theta_0 + \alpha\,\theta_1$ for every floating-point tensor.

    Reference: WiSE-FT, https://arxiv.org/abs/2109.01903, section 3.
    """
    return {
        name: torch.lerp(start[name].to(value), value, alpha)
        if value.is_floating_point()
        else value
        for name, value in end.items()
    }
