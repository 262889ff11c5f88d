"""An adapter for towers without tokens: a residual bottleneck and the affine part of the norms."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from clipcore.backbone import VisualTower

REDUCTION = 4
NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
NORM = "norm:"


def new_correction(dim: int, generator: Generator) -> tuple[nn.Parameter, nn.Parameter]:
    """Return the matrices D, (hidden, dim), and U, (dim, hidden), of a new `correct`: U is zero."""
    hidden = max(1, dim // REDUCTION)
    down = nn.Parameter(torch.randn(hidden, dim, generator=generator) / dim**0.5)
    return down, nn.Parameter(torch.zeros(dim, hidden))


def correct(
    v: Float[Tensor, "batch dim"],
    down: Float[Tensor, "hidden dim"],
    up: Float[Tensor, "dim hidden"],
) -> Float[Tensor, "batch dim"]:
    r"""Return $v + U\,\text{ReLU}(Dv)$ of normalised features; the identity while $U = 0$.

    Reference: CLIP-Adapter, https://arxiv.org/abs/2110.04544, Eq. 5.
    """
    return v + F.relu(v @ down.T) @ up.T


class Bottleneck(nn.Module):
    """Correct the normalised image feature (see `correct`), and tune the norms' affine.

    The identity when new. The scales and shifts of the tower's normalisation layers learn
    too; their running statistics do not. Reference: norm tuning, https://arxiv.org/abs/2003.00152.
    """

    def __init__(self, dim: int, generator: Generator) -> None:
        super().__init__()
        self.down, self.up = new_correction(dim, generator)
        # The tower owns its norms and this module; neither may own the other a second time.
        self._tower: list[VisualTower] = []
        self._norms: dict[str, nn.Parameter] = {}
        self._originals: dict[str, nn.Parameter] = {}
        self._hook: Any = None

    @classmethod
    def attach(cls, tower: VisualTower, *, generator: Generator) -> "Bottleneck":
        """Put a new bottleneck on a visual tower and let its norms learn."""
        adapter = cls(tower.dim, generator)
        adapter.to(tower.mean.device)
        for name, module in tower.network.named_modules():
            if isinstance(module, NORMS):
                adapter._adopt(name, module)
        adapter._hook = tower.network.register_forward_hook(
            lambda _, __, output: adapter._correct(output)
        )
        adapter._tower.append(tower)
        tower.adapters.append(adapter)
        return adapter

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: FBT001, FBT002  # torch's signature
        """Yield what learns: the bottleneck and the tower's norm scales and shifts."""
        yield from super().parameters(recurse)
        yield from self._norms.values()

    def tensors(self) -> dict[str, Tensor]:
        """Return the bottleneck and the norms' values."""
        norms = {f"{NORM}{name}": value.detach() for name, value in self._norms.items()}
        return {**self.state_dict(), **norms}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        own = {name: value for name, value in tensors.items() if not name.startswith(NORM)}
        self.load_state_dict(own)
        with torch.no_grad():
            for name, parameter in self._norms.items():
                parameter.copy_(tensors[f"{NORM}{name}"])

    def merge(self) -> None:
        """Stay: bottleneck and norms are part of the tower's state already."""

    def detach(self) -> None:
        """Take the bottleneck off and give the norms their own values back."""
        self._hook.remove()
        self._tower.pop().adapters.pop(-1)  # the last one on is the first one off
        with torch.no_grad():
            for name, parameter in self._norms.items():
                parameter.copy_(self._originals[name])
                parameter.requires_grad = self._originals[name].requires_grad

    def _adopt(self, name: str, module: nn.Module) -> None:
        """Let a norm's scale and shift learn, remembering what they were."""
        for part, parameter in module.named_parameters(recurse=False):
            self._originals[f"{name}.{part}"] = copy.deepcopy(parameter)
            self._norms[f"{name}.{part}"] = parameter
            parameter.requires_grad = True

    def _correct(self, feature: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        return correct(F.normalize(feature.float(), dim=1), self.down, self.up)
