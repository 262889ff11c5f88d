"""Features of the positions of an image, in the space of the pooled feature."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipcore.backbone import VisualTower
from clipcore.backbone_names import UnsupportedBackbone


def feature_map(
    tower: VisualTower, x: Float[Tensor, "batch 3 height width"], *, side: int
) -> Float[Tensor, "batch positions dim"]:
    """Return fp32 features of side x side positions, row by row, not normalised.

    What the tower pools goes through its projection at each position, averaged over the pixels
    that a position covers. The mean over all positions is the pooled feature of a tower that
    averages. A correction of the pooled feature, which some adapters make, is left out.

    Args:
        tower: A ViT of open_clip, or a timm network whose head is linear.
        x: Normalised input.
        side: Positions in each direction.

    Raises:
        UnsupportedBackbone: the tower has no grid of features.
    """
    network: Any = tower.network
    grid = _vit_grid(network, x) if tower.kind == "vit" else _timm_grid(network, x)
    pooled = F.adaptive_avg_pool2d(grid.float(), side).flatten(2).transpose(1, 2)
    if tower.kind == "timm":
        projected: Tensor = network.head(pooled.to(grid.dtype))
        return projected.float()
    return pooled if network.proj is None else pooled @ network.proj.float()


def _vit_grid(network: Any, x: Tensor) -> Float[Tensor, "batch width rows columns"]:
    """Return what open_clip's ViT pools, without its class token."""
    if network.attn_pool is not None:
        raise UnsupportedBackbone("A tower with attention pooling has no map of features.")
    tokens = network.transformer(network._embeds(x))  # noqa: SLF001  # as its forward pass does
    rows, columns = network.grid_size
    tokens = network.ln_post(tokens[:, -rows * columns :])
    grid: Tensor = tokens.transpose(1, 2).unflatten(2, (rows, columns))
    return grid


def _timm_grid(network: Any, x: Tensor) -> Float[Tensor, "batch width rows columns"]:
    """Return what a timm network pools: an image of features, or tokens in a square."""
    grid: Tensor = network.trunk.forward_features(x)
    if any(name not in {"drop", "proj"} for name, _ in network.head.named_children()):
        raise UnsupportedBackbone("A tower whose head is not linear has no map of features.")
    if grid.dim() == 3:  # noqa: PLR2004  # (batch, tokens, width)
        tokens = grid[:, getattr(network.trunk, "num_prefix_tokens", 0) :]
        side = round(tokens.shape[1] ** 0.5)
        grid = tokens.transpose(1, 2).unflatten(2, (side, side))
    return grid
