"""Low-rank adaptation of the projections in the attention of a transformer."""

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from clipcore.backbone import VisualTower


class _Update(nn.Module):
    r"""Add $BA \cdot \alpha / r$ to rows of a (3 width, width) weight: q, v, and if asked k."""

    def __init__(
        self, width: int, rank: int, scale: float, generator: Generator, *, keys: bool
    ) -> None:
        super().__init__()
        self.scale = scale
        parts = 3 if keys else 2
        drawn = torch.randn(parts, rank, width, generator=generator) / math.sqrt(width)
        self.down = nn.Parameter(drawn)
        self.up = nn.Parameter(torch.zeros(parts, width, rank))

    def forward(self, weight: Tensor) -> Tensor:
        query, *key, value = self.scale * self.up @ self.down
        return weight + torch.cat([query, *(key or [torch.zeros_like(query)]), value])


class Lora(nn.Module):
    """Low-rank updates of q and v in every attention block; the identity when new.

    Those of CLIP-LoRA are of k too, and of both towers.

    References: LoRA, https://arxiv.org/abs/2106.09685, Eq. 3 and section 4.2 (q and v); CLIP-LoRA,
    https://arxiv.org/abs/2405.18541, section 3.
    """

    def __init__(self, attentions: list[nn.MultiheadAttention]) -> None:
        super().__init__()
        self._attentions = attentions
        self.updates = nn.ModuleList()

    @classmethod
    def attach(
        cls, tower: VisualTower, *, generator: Generator, rank: int = 8, alpha: float | None = None
    ) -> "Lora":
        """Put new updates of the given rank on an open_clip ViT; `alpha` defaults to the rank."""
        network: Any = tower.network
        return cls.on(network.transformer, generator=generator, rank=rank, alpha=alpha)

    @classmethod
    def on(
        cls,
        transformer: Any,
        *,
        generator: Generator,
        rank: int,
        alpha: float | None = None,
        keys: bool = False,
    ) -> "Lora":
        """Put new updates on one of open_clip's transformers, of either tower.

        Args:
            transformer: Whose blocks learn.
            generator: Draws the first factors.
            rank: Of each update.
            alpha: Over the rank it is the scale of an update, which is 1 by default.
            keys: Whether the projections of keys learn too.
        """
        attentions = [block.attn for block in transformer.resblocks]
        lora = cls(attentions)
        scale = 1.0 if alpha is None else alpha / rank
        for attention in attentions:
            update = _Update(attention.embed_dim, rank, scale, generator, keys=keys)
            update.to(attention.in_proj_weight.device)
            parametrize.register_parametrization(attention, "in_proj_weight", update)
            lora.updates.append(update)
        return lora

    def tensors(self) -> dict[str, Tensor]:
        """Return the low-rank factors."""
        return dict(self.state_dict())

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.load_state_dict(tensors)

    def merge(self) -> None:
        """Add the updates to the tower's weights for good."""
        self._remove(keep=True)

    def detach(self) -> None:
        """Take the updates off; the tower has its own weights again."""
        self._remove(keep=False)

    def _remove(self, *, keep: bool) -> None:
        for attention in self._attentions:
            parametrize.remove_parametrizations(
                attention, "in_proj_weight", leave_parametrized=keep
            )
        self._attentions = []
