"""An adapter for towers without tokens: a residual bottleneck and the affine part of the norms."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from clipcore.backbone import VisualTower

REDUCTION = 4
NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


class Bottleneck(nn.Module):
    r"""Correct the normalised image feature, $v + U\,\text{ReLU}(Dv)$, and tune the norms' affine.

    The identity when new ($U = 0$). The scales and shifts of the tower's normalisation layers learn
    too; their running statistics do not. References: CLIP-Adapter,
    https://arxiv.org/abs/2110.04544, Eq. 5; norm tuning, https://arxiv.org/abs/2003.00152.
    """

    def __init__(self, dim: int, generator: Generator) -> None:
        super().__init__()
        hidden = max(1, dim // REDUCTION)
        self.down = nn.Parameter(torch.randn(hidden, dim, generator=generator) / dim**0.5)
        self.up = nn.Parameter(torch.zeros(dim, hidden))
        self.affine = nn.ParameterDict()
        self._originals: dict[str, Tensor] = {}
        self._hook: Any = None

    @classmethod
    def attach(cls, tower: VisualTower, *, generator: Generator) -> Self:
        """Put a new bottleneck on a visual tower."""
        device = tower.mean.device
        adapter = cls(_output_dim(tower), generator).to(device)
        for name, module in tower.network.named_modules():
            if isinstance(module, NORMS):
                adapter._adopt(name, module)
        adapter._hook = tower.network.register_forward_hook(
            lambda _, __, output: adapter._correct(output)
        )
        return adapter

    def detach(self) -> None:
        """Take the bottleneck off and give the norms their own values back."""
        self._hook.remove()
        with torch.no_grad():
            for key, original in self._originals.items():
                self.affine[key].copy_(original)
                self.affine[key].requires_grad_(requires_grad=False)

    def _adopt(self, name: str, module: nn.Module) -> None:
        """Let a norm's own scale and shift learn, remembering what they were."""
        for part, parameter in module.named_parameters(recurse=False):
            key = f"{name}.{part}".replace(".", "/")  # a ParameterDict key has no dots
            self._originals[key] = parameter.detach().clone()
            self.affine[key] = parameter.requires_grad_()

    def _correct(self, feature: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        v = F.normalize(feature.float(), dim=1)
        return v + F.relu(v @ self.down.T) @ self.up.T


def _output_dim(tower: VisualTower) -> int:
    size = tower.preprocess.size
    pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with torch.no_grad():
        return tower(pixels).shape[1]
