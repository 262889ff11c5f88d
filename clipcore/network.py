"""A visual tower with a linear head: what Phase II trains, and what is served."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.utils import skip_init

from clipcore import precision
from clipcore.backbone import VisualTower
from clipcore.folding import folded_view


class Network(nn.Module):
    """A visual tower with a linear head on its normalised features, whose values are to be set."""

    def __init__(self, visual: VisualTower, *, num_classes: int, dim: int) -> None:
        super().__init__()
        self.visual = visual
        self.head: nn.Linear = skip_init(nn.Linear, dim, num_classes)  # no draw of torch's own

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


def quick_in_training(visual: VisualTower) -> VisualTower:
    """Return the tower with its norms, whose statistics are fixed, inside of its convolutions.

    It shares all parameters with the given one. Where training is not in fp32 it is that one.
    """
    in_fp32 = not precision.trains_in_bf16(visual.mean.device, convolutions=visual.kind == "timm")
    return folded_view(visual, "network") if in_fp32 else visual


def encode_in_training(visual: VisualTower, x: Tensor) -> Tensor:
    """Return normalised features of normalised input, in the precision of training."""
    device, convolutions = visual.mean.device, visual.kind == "timm"
    with precision.mixed(device, training=True, convolutions=convolutions):
        return visual.encode_input(x)


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
