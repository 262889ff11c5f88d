"""Forward passes without gradients: a tower made quick for them, and how many images it takes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clipcore import precision
from clipcore.backbone import VisualTower
from clipcore.feature_maps import feature_map
from clipcore.folding import fold, foldable_pairs

BATCH_ON_CPU = 32  # a larger one is no quicker, and takes more memory
LARGEST_BATCH = 256  # a ViT-B/16 on a large GPU gains nothing beyond
PROBED = 16  # images that are tried to see what one needs
SHARE_OF_FREE_MEMORY = 0.5


class Encoder:
    """A visual tower as it is now, for forward passes alone; the tower itself stays as it is.

    Batch norms are part of the convolutions before them (equal to rounding: about 1e-6 in a
    feature), and the weights of a tower without batch norms are bf16 where the device is faster
    with it: cast once, and not with every batch as autocast does. Convolutions with batch norms
    stay in fp32: in bf16 the embedded tower loses a point of zero-shot accuracy. Features are fp32
    and normalised. What the tower learns later is not seen.

    Args:
        tower: As it is now.
        side: Positions of an image in each direction, for a map of features in place of one.
    """

    def __init__(self, tower: VisualTower, *, side: int = 0) -> None:
        self._side = side
        self.preprocess = tower.preprocess
        self.device = tower.mean.device
        network = tower.network
        pairs = foldable_pairs(network)
        is_bf16 = precision.has_fast_bf16(self.device) and not pairs
        self._dtype = torch.bfloat16 if is_bf16 else torch.float32
        if pairs or self._dtype != torch.float32:
            network = prepared(network, dtype=self._dtype)
        self._tower = VisualTower(network, tower.preprocess, kind=tower.kind, dim=tower.dim)
        self._tower.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, pixels: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch dim"]:
        """Return L2-normalised fp32 features on the tower's device; of a map fp16, in a row."""
        x = self._tower.to_input(pixels).to(self._dtype)
        if self._side:
            return feature_map(self._tower, x, side=self._side).half().flatten(1)
        return self._tower.encode_input(x)


@dataclass
class BatchSize:
    """Number of images in a forward pass; halved for good when the device runs out of memory."""

    images: int

    @classmethod
    def fitting(cls, encode: Encoder, *, asked: int | None = None) -> "BatchSize":
        """Return what was asked for, or what half of a GPU's free memory holds; see the constants.

        Args:
            encode: What runs, alone or with others of its size.
            asked: By a person.
        """
        if asked or encode.device.type != "cuda":
            return cls(asked or BATCH_ON_CPU)
        size = encode.preprocess.size
        pixels = torch.zeros(PROBED, size, size, 3, dtype=torch.uint8, device=encode.device)
        torch.cuda.reset_peak_memory_stats(encode.device)
        before = torch.cuda.memory_allocated(encode.device)
        encode(pixels)
        needed = (torch.cuda.max_memory_allocated(encode.device) - before) / PROBED
        free, _ = torch.cuda.mem_get_info(encode.device)
        return cls(largest_batch(int(SHARE_OF_FREE_MEMORY * free), int(needed)))

    def run(
        self, forward: Callable[[Tensor], tuple[Tensor, ...]], pixels: Tensor
    ) -> tuple[Tensor, ...]:
        """Run `forward` over all pixels in pieces that fit, and concatenate the results.

        Args:
            forward: Returns tensors whose last axis but one is the images.
            pixels: uint8 of shape (images, size, size, 3).
        """
        try:
            starts = range(0, len(pixels), self.images)
            pieces = [forward(pixels[start : start + self.images]) for start in starts]
        except torch.cuda.OutOfMemoryError:
            if self.images == 1:
                raise
            self.images = max(1, self.images // 2)
            torch.cuda.empty_cache()
            return self.run(forward, pixels)
        return tuple(torch.cat(same, dim=-2) for same in zip(*pieces, strict=True))


def largest_batch(free_bytes: int, bytes_of_image: int) -> int:
    """Return the power of two of images that fit into memory, from 1 to `LARGEST_BATCH`."""
    fit = max(1, free_bytes // max(1, bytes_of_image))
    return min(LARGEST_BATCH, 1 << (fit.bit_length() - 1))


def _settle(module: Any) -> None:
    """Replace what parametrizations compute by its value.

    `remove_parametrizations` would change the class of the module, which a copy shares.
    """
    values = {name: getattr(module, name).detach() for name in module.parametrizations}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def prepared(network: nn.Module, *, dtype: torch.dtype, folded: bool = True) -> nn.Module:
    """Return a copy for inference: its parametrizations computed once, its batch norms folded."""
    copied: Any = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()
    for module in list(copied.modules()):
        if parametrize.is_parametrized(module):
            _settle(module)
    if folded:
        fold(copied, foldable_pairs(network), settled=True)
    copied.to(dtype).to(memory_format=torch.channels_last)
    return cast("nn.Module", copied)
