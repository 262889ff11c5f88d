"""Deep visual prompt tuning: fresh learned tokens for every block of a ViT."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from clipcore.backbone import VisualTower


class VisualPrompts(nn.Module):
    """Learned tokens that the first blocks of a ViT, or all, read beside its own tokens.

    Each of these blocks gets its own tokens in the place of what the last one made of them; later
    blocks go on with that. They stand at the end of the sequence: prompts have no position, and the
    class token stays first, where it is pooled.

    Reference: VPT-deep, https://arxiv.org/abs/2203.12119, Eq. 5 and 6.
    """

    def __init__(self, depth: int, num_prompts: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(depth, num_prompts, width))
        self._source: Callable[[], Tensor] | None = None
        self._place = 0  # where the tokens stand in the sequence
        self._hooks: list[Any] = []
        self._tower: list[VisualTower] = []  # in a list: the tower owns the prompts, not they it

    @classmethod
    def attach(
        cls,
        tower: VisualTower,
        *,
        generator: Generator,
        num_prompts: int = 20,
        depth: int | None = None,
    ) -> "VisualPrompts":
        """Put new prompts, uniform as in VPT's code, on the first `depth` blocks of a ViT."""
        network: Any = tower.network
        blocks = network.transformer.resblocks
        width = network.conv1.out_channels
        prompts = cls(min(depth or len(blocks), len(blocks)), num_prompts, width)
        limit = math.sqrt(6 / (3 * math.prod(network.conv1.kernel_size) + width))
        with torch.no_grad():
            drawn = torch.rand(prompts.tokens.shape, generator=generator)
            prompts.tokens.copy_((2 * drawn - 1) * limit)
        prompts.to(network.conv1.weight.device)
        prompts._tower.append(tower)
        prompts._hook(blocks)
        tower.adapters.append(prompts)
        return prompts

    def follow(self, source: Callable[[], Float[Tensor, "depth prompts width"]]) -> None:
        """Take the tokens from elsewhere from now on: they no longer learn themselves."""
        self.tokens.requires_grad = False
        self._source = source

    def tensors(self) -> dict[str, Tensor]:
        """Return the prompts, as they are now."""
        return {"tokens": self._current().detach()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.load_state_dict(tensors)

    def merge(self) -> None:
        """Stay, as they are now: the prompts are part of the tower's state."""
        with torch.no_grad():
            self.tokens.copy_(self._current())
        self._source = None

    def detach(self) -> None:
        """Take the prompts off the tower."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._tower.pop().adapters.pop(-1)  # the last one on is the first one off

    def _hook(self, blocks: nn.ModuleList) -> None:
        for index, block in enumerate(blocks[: len(self.tokens)]):
            hook = block.register_forward_pre_hook(
                lambda _, inputs, index=index: (self._insert(inputs[0], index), *inputs[1:])
            )
            self._hooks.append(hook)
        strip = blocks[-1].register_forward_hook(lambda _, __, output: self._strip(output))
        self._hooks.append(strip)

    def _insert(self, x: Float[Tensor, "batch tokens width"], index: int) -> Tensor:
        """Replace the last block's outputs for prompts (none before the first) by new tokens.

        They stand behind all that was there before the first block, the tokens of prompts that were
        attached earlier included.
        """
        if index == 0:
            self._place = x.shape[1]
        fresh = self._current()[index].to(x.dtype).expand(x.shape[0], -1, -1)
        return torch.cat([x[:, : self._place], fresh, x[:, self._place + fresh.shape[1] :]], dim=1)

    def _current(self) -> Float[Tensor, "depth prompts width"]:
        return self.tokens if self._source is None else self._source()

    def _strip(self, x: Tensor) -> Tensor:
        return x[:, : self._place]
