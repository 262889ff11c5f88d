"""Image sides of a dual-prompt learner: a tower with an adapter, or features that were cached."""

import copy
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from clipcore import precision
from clipcore.adapters import Adapter
from clipcore.adapters.bottleneck import correct, new_correction
from clipcore.adapters.vpt import VisualPrompts
from clipcore.augment import random_view, view_size
from clipcore.backbone import VisualTower


@runtime_checkable
class ImageSide(Protocol):
    """Turns what a training set holds into image features, and may learn."""

    name: str  # under which its tensors are kept
    block: int  # images that are scored at once

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that may learn."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the learned tensors by name."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""

    def encode(self, x: Tensor, draws: Generator | None = None) -> Tensor:
        """Return normalised features of shape (batch, dim); `draws` makes random views of them."""


class TowerWithAdapter:
    """Pixels through a frozen tower with an adapter that learns: visual prompts, LoRA, norms."""

    name = "adapter"
    block = 64

    def __init__(self, tower: VisualTower, adapter: Adapter, *, flip: bool) -> None:
        self.tower = tower
        self.adapter = adapter
        self._size = view_size(tower)
        self._flip = flip
        self._quick: nn.Module | None = None

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the adapter's parameters; nothing of the tower's own but what it borrows."""
        yield from self.adapter.parameters()

    def tensors(self) -> dict[str, Tensor]:
        """Return the adapter's tensors."""
        return self.adapter.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.adapter.restore(tensors)

    def encode(self, x: Tensor, draws: Generator | None = None) -> Tensor:
        """Return features of uint8 pixels, of a random view of each when draws are given.

        Running statistics of the tower's norms stay as they are: it remains in evaluation mode.
        """
        y = self.tower.to_input(x)
        if draws is not None:
            y = random_view(y, generator=draws, size=self._size, flip=self._flip)
        device, convolutions = self.tower.mean.device, self.tower.kind == "timm"
        with precision.mixed(device, training=draws is not None, convolutions=convolutions):
            if torch.is_autocast_enabled(device.type) and isinstance(self.adapter, VisualPrompts):
                return self._encode_quickly(y, torch.get_autocast_dtype(device.type))
            return self.tower.encode_input(y)

    def _encode_quickly(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Let a copy in the type of autocast read the input; it has the tower's visual prompts.

        Of a tower with visual prompts all weights are frozen. Autocast would cast them, and half of
        the activations, in every step.
        """
        if self._quick is None:
            self._quick = copy.deepcopy(self.tower.network).to(dtype)
        with torch.autocast(y.device.type, enabled=False):
            return F.normalize(self._quick(y.to(dtype)).float(), dim=1)


class CachedFeatures(nn.Module):
    """Features that a frozen tower gave once, with the correction of `adapters.Bottleneck`.

    No image is decoded or encoded again, so a round takes seconds. The learned correction takes
    its place in a `Bottleneck` on the tower when the learner is served.
    """

    name = "correction"
    block = 1024

    def __init__(self, dim: int, *, generator: Generator, learns: bool = True) -> None:
        super().__init__()
        self.down, self.up = new_correction(dim, generator)
        self.requires_grad_(learns)

    def tensors(self) -> dict[str, Tensor]:
        """Return the matrices of the correction."""
        return dict(self.state_dict())

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.load_state_dict(tensors)

    def encode(
        self, x: Float[Tensor, "batch dim"], _draws: Generator | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Return the corrected features; there are no views of a feature."""
        return F.normalize(correct(x, self.down, self.up), dim=1)
