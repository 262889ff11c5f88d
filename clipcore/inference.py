"""Forward passes without gradients: a tower made quick for them, and how many images it takes."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from clipcore import precision
from clipcore.backbone import VisualTower

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
    """

    def __init__(self, tower: VisualTower) -> None:
        self.preprocess = tower.preprocess
        self.device = tower.mean.device
        network = tower.network
        pairs = list(_convolutions_before_norms(network))
        is_bf16 = precision.has_fast_bf16(self.device) and not pairs
        self._dtype = torch.bfloat16 if is_bf16 else torch.float32
        if pairs or self._dtype != torch.float32:
            network = _prepared(network, pairs, self._dtype)
        self._tower = VisualTower(network, tower.preprocess, kind=tower.kind, dim=tower.dim)
        self._tower.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, pixels: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch dim"]:
        """Return L2-normalised fp32 features on the tower's device."""
        return self._tower.encode_input(self._tower.to_input(pixels).to(self._dtype))


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


class _Tracer(fx.Tracer):
    """Follows a network down to convolutions and norms, of which other libraries have their own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(
            m, module_qualified_name
        )


def _convolutions_before_norms(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of each convolution whose output goes to a batch norm and nowhere else."""
    modules = dict(network.named_modules())
    if not any(isinstance(module, nn.BatchNorm2d) for module in modules.values()):
        return
    try:
        nodes = list(_Tracer().trace(network).nodes)
    except Exception:  # noqa: BLE001  # a network that cannot be followed is run as it is
        return
    called = [str(node.target) for node in nodes if node.op == "call_module"]
    for node in nodes:
        if node.op != "call_module" or not _is_foldable(modules[str(node.target)]):
            continue
        (before,) = node.all_input_nodes
        pair = (str(before.target), str(node.target))
        follows = before.op == "call_module" and isinstance(modules[pair[0]], nn.Conv2d)
        if follows and len(before.users) == 1 and all(called.count(name) == 1 for name in pair):
            yield pair


def _is_foldable(module: nn.Module) -> bool:
    """Return whether a module is PyTorch's batch norm, or timm's with its activation."""
    plain = type(module) is nn.BatchNorm2d or _rest(module) is not None
    return isinstance(module, nn.BatchNorm2d) and plain and module.running_var is not None


def _rest(norm: nn.Module) -> nn.Module | None:
    """Return what timm's batch norm does beside normalising."""
    drop, activation = getattr(norm, "drop", None), getattr(norm, "act", None)
    if isinstance(drop, nn.Module) and isinstance(activation, nn.Module):
        return nn.Sequential(drop, activation)
    return None


def _settle(module: Any) -> None:
    """Replace what parametrizations compute by its value.

    `remove_parametrizations` would change the class of the module, which a copy shares.
    """
    values = {name: getattr(module, name).detach() for name in module.parametrizations}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _prepared(network: nn.Module, pairs: list[tuple[str, str]], dtype: torch.dtype) -> nn.Module:
    """Return a copy for inference: its parametrizations computed once, its batch norms folded."""
    prepared: Any = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()
    for module in list(prepared.modules()):
        if parametrize.is_parametrized(module):
            _settle(module)
    for convolution, norm in pairs:
        old = prepared.get_submodule(norm)
        fused = fuse_conv_bn_eval(prepared.get_submodule(convolution), old)
        prepared.set_submodule(convolution, fused)
        prepared.set_submodule(norm, _rest(old) or nn.Identity())
    prepared.to(dtype).to(memory_format=torch.channels_last)
    return cast("nn.Module", prepared)
