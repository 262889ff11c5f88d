"""An exponential moving average of a module's weights."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class MovingAverage(Generic[M]):
    r"""A copy that follows a module slowly, $\theta_m \leftarrow \mu\theta_m + (1-\mu)\theta$.

    Its parameters get no gradient. Buffers, such as the statistics of batch norms, are copied.

    Reference: CoFT, https://arxiv.org/abs/2602.04337, Eq. 8; He et al. 2020,
    https://arxiv.org/abs/1911.05722.
    """

    def __init__(self, module: M, *, momentum: float) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"The momentum of an average is from 0 to 1; got {momentum}.")
        self.module = copy.deepcopy(module).requires_grad_(requires_grad=False).eval()
        self.momentum = momentum

    @torch.no_grad()
    def update(self, module: M) -> None:
        """Move the average one step towards the module as it is now."""
        own, others = (
            [parameter.data for parameter in one.parameters()] for one in (self.module, module)
        )
        torch._foreach_lerp_(own, others, 1 - self.momentum)  # as torch's optimizers
        for kept, new in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(new)

    def tensors(self) -> dict[str, Tensor]:
        """Return the average, for a checkpoint."""
        return self.module.state_dict()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.module.load_state_dict(tensors)
