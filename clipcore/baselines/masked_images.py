"""Masked image modelling on a ViT: what stands behind tokens that were covered (MUST)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from clipcore.backbone import VisualTower


class MaskedImages(nn.Module):
    r"""Cover patches of a ViT's input, and read from its output what they were.

    $$L_\text{mim} = \frac{1}{3 |M|\, s^2} \sum_{m \in M} \lVert D z_m - x_m \rVert_1,\quad
        L_\text{align} = \frac{1}{|M|} \sum_{m \in M} \lVert \bar v_m - \bar v_\text{cls} \rVert^2$$

    with $M$ the covered patches of a batch, $x_m$ the $3 s^2$ normalised values of one, $z_m$ the
    output of the last block at its place, $D$ a linear map that learns, and $\bar v$ normalised
    features: what the tower's last norm and projection make of $z$. Instead of a covered patch the
    first block reads a token that learns.

    Reference: MUST, https://arxiv.org/abs/2206.02967, sections 3.2 and 3.3.

    Args:
        tower: An open_clip ViT, with no tokens added to its own.
        generator: Draws the first map.
    """

    def __init__(self, tower: VisualTower, *, generator: Generator) -> None:
        super().__init__()
        network: Any = tower.network
        width, patch = network.conv1.out_channels, network.conv1.kernel_size[0]
        drawn = torch.randn(3 * patch**2, width, generator=generator) / math.sqrt(width)
        self.decoder = nn.Parameter(drawn)
        self.token = nn.Parameter(torch.zeros(width))
        self.to(tower.mean.device)
        self.grid: tuple[int, int] = network.grid_size
        self._network = [network]  # in a list: it is not this module's
        self._covered: Tensor | None = None
        self._output: Tensor | None = None
        self._hooks = [
            network.conv1.register_forward_hook(lambda _, __, output: self._cover(output)),
            network.transformer.register_forward_hook(lambda _, __, output: self._keep(output)),
        ]

    def cover(self, is_covered: Bool[Tensor, "batch rows columns"] | None) -> None:
        """Cover these patches of the next batches; None covers none."""
        self._covered = is_covered

    def losses(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        r"""Return $L_\text{mim}$ and $L_\text{align}$ of the batch that was encoded last.

        Args:
            x: Its normalised input.
        """
        assert self._covered is not None  # noqa: S101  # the caller has covered some
        assert self._output is not None  # noqa: S101  # and encoded the batch
        covered = self._covered.flatten(1)
        tokens = self._output[:, -covered.shape[1] :]
        found = tokens[covered].float() @ self.decoder.T
        mim = (found - patches(x, self.grid)[covered]).abs().mean()
        network = self._network[0]
        seen = network.ln_post(self._output.float())
        seen = F.normalize(seen if network.proj is None else seen @ network.proj.float(), dim=2)
        far = (seen[:, -covered.shape[1] :] - seen[:, :1]).square().sum(dim=2)
        return mim, far[covered].mean()

    def detach(self) -> None:
        """Leave the tower as it was."""
        for hook in self._hooks:
            hook.remove()

    def _cover(self, patch_embeddings: Tensor) -> Tensor:
        if self._covered is None:
            return patch_embeddings
        token = self.token.to(patch_embeddings.dtype)[:, None, None]
        return torch.where(self._covered[:, None], token, patch_embeddings)

    def _keep(self, output: Tensor) -> None:
        self._output = output


def patches(
    x: Float[Tensor, "batch 3 height width"], grid: tuple[int, int]
) -> Float[Tensor, "batch patches values"]:
    """Return the values of each patch, row by row: channels, then rows and columns within it."""
    rows, columns = grid
    height, width = x.shape[2] // rows, x.shape[3] // columns
    values: Tensor = F.unfold(x, (height, width), stride=(height, width)).transpose(1, 2)
    return values


def draw_covered(
    count: int, grid: tuple[int, int], *, share: float, generator: Generator
) -> Bool[Tensor, "batch rows columns"]:
    """Draw, for each image, a share of its patches, at least one."""
    rows, columns = grid
    covered = max(1, round(share * rows * columns))
    order = torch.rand(count, rows * columns, generator=generator).argsort(dim=1)
    return (order < covered).reshape(count, rows, columns)
