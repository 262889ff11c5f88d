"""Phase II: the whole visual tower and a linear head, on labels that were kept (CoFT 3.2)."""

from collections.abc import Iterator
from typing import Literal

import torch.nn.functional as F
from torch import Generator, Tensor
from torch.optim import Optimizer

from clipcore import precision
from clipcore.augment import random_view, view_size
from clipcore.fit import Schedule, TrainingSet, fit
from clipcore.folding import folded_view
from clipcore.network import Network, freeze_norm_statistics

NormStatistics = Literal["frozen", "updated"]


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

    `norm_statistics="frozen"` keeps the running mean and variance of batch norms. They are then
    part of the convolutions before them, where training is in fp32.
    """
    device = network.head.weight.device
    size = view_size(network.visual)
    convolutions = network.visual.kind == "timm"
    in_fp32 = not precision.trains_in_bf16(device, convolutions=convolutions)
    is_folded = norm_statistics == "frozen" and in_fp32
    visual = folded_view(network.visual, "network") if is_folded else network.visual

    def loss_terms(pixels: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        x = random_view(visual.to_input(pixels), generator=draws, size=size, flip=flip)
        with precision.mixed(device, training=True, convolutions=convolutions):
            features = visual.encode_input(x)
        labels = labels.to(device, non_blocking=True)
        return {"loss": F.cross_entropy(network.logits(features), labels)}

    for epoch in epochs:
        visual.train()
        if norm_statistics == "frozen":
            freeze_norm_statistics(visual)
        yield from fit(optimizer, loss_terms, data, schedule, epochs=range(epoch, epoch + 1))
        visual.eval()
    network.eval()
