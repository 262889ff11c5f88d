"""Deep visual prompt tuning: fresh learned tokens for every block of a ViT."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from clipcore.backbone import VisualTower


class VisualPrompts(nn.Module):
    """Learned tokens that every block of a ViT reads beside the class and patch tokens.

    Each block gets its own tokens and its outputs for them are dropped. They stand at the end of
    the sequence: prompts have no position, and the class token stays first, where it is pooled.

    Reference: VPT-deep, https://arxiv.org/abs/2203.12119, Eq. 5 and 6.
    """

    def __init__(self, num_blocks: int, num_prompts: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(num_blocks, num_prompts, width))
        self._hooks: list[Any] = []
        self._tower: list[VisualTower] = []  # in a list: the tower owns the prompts, not they it

    @classmethod
    def attach(
        cls, tower: VisualTower, *, generator: Generator, num_prompts: int = 20
    ) -> "VisualPrompts":
        """Put new prompts, uniform as in VPT's code, on an open_clip ViT."""
        network: Any = tower.network
        blocks = network.transformer.resblocks
        width = network.conv1.out_channels
        prompts = cls(len(blocks), num_prompts, width)
        limit = math.sqrt(6 / (3 * math.prod(network.conv1.kernel_size) + width))
        with torch.no_grad():
            drawn = torch.rand(prompts.tokens.shape, generator=generator)
            prompts.tokens.copy_((2 * drawn - 1) * limit)
        prompts.to(network.conv1.weight.device)
        prompts._tower.append(tower)
        prompts._hook(blocks)
        tower.adapters.append(prompts)
        return prompts

    def tensors(self) -> dict[str, Tensor]:
        """Return the prompts."""
        return dict(self.state_dict())

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.load_state_dict(tensors)

    def merge(self) -> None:
        """Stay: the prompts are part of the tower's state already."""

    def detach(self) -> None:
        """Take the prompts off the tower."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._tower.pop().adapters.pop(-1)  # the last one on is the first one off

    def _hook(self, blocks: nn.ModuleList) -> None:
        for index, block in enumerate(blocks):
            hook = block.register_forward_pre_hook(
                lambda _, inputs, index=index: (self._insert(inputs[0], index), *inputs[1:])
            )
            self._hooks.append(hook)
        strip = blocks[-1].register_forward_hook(lambda _, __, output: self._strip(output))
        self._hooks.append(strip)

    def _insert(self, x: Float[Tensor, "batch tokens width"], index: int) -> Tensor:
        """Replace the last block's outputs for prompts (none before the first) by new tokens."""
        kept = x if index == 0 else self._strip(x)
        fresh = self.tokens[index].to(x.dtype).expand(len(x), -1, -1)
        return torch.cat([kept, fresh], dim=1)

    def _strip(self, x: Tensor) -> Tensor:
        return x[:, : -self.tokens.shape[1]]
