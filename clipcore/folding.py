r"""Batch norms in evaluation mode as part of the convolutions before them.

With its statistics fixed, a batch norm is $\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$:
a factor for each channel of the weights before it, and a bias. A network without it reads and
writes a third less, in both directions, and all parameters get the same gradients as before.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, fx, nn

M = TypeVar("M", bound=nn.Module)

Pair = tuple[str, str]
"""Names of a convolution and of the batch norm that alone reads its output."""


@dataclass(frozen=True)
class _Geometry:
    """How a convolution goes over its input."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    is_same: bool  # TensorFlow's padding, which depends on the input

    @classmethod
    def of(cls, layer: nn.Conv2d) -> "_Geometry":
        sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        return cls(*sizes, groups=layer.groups, is_same=isinstance(layer, Conv2dSame))

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve as the layer does, with other weights.

        "Same" padding puts one more zero after the image than before it. A zero before the kernel
        does the same without a copy of the image.
        """
        stride, dilation, groups = self.stride, self.dilation, self.groups
        if not self.is_same:
            return F.conv2d(x, weight, bias, stride, self.padding, dilation, groups)
        high, wide = self._same_padding(x)
        padding = (high - high // 2, wide - wide // 2)  # after the image
        if dilation == (1, 1):
            weight = F.pad(weight, (wide % 2, 0, high % 2, 0))
        else:
            x = F.pad(x, (wide // 2, padding[1], high // 2, padding[0]))
            padding = (0, 0)
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    def _same_padding(self, x: Tensor) -> list[int]:
        """Return how many zeros the height and the width of the images get in all."""
        sizes = zip(x.shape[-2:], self.kernel, self.stride, self.dilation, strict=True)
        return [
            max(0, (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
            for size, kernel, stride, dilation in sizes
        ]


class FoldedConvolution(nn.Module):
    """A convolution and the batch norm after it, in one; both keep their parameters."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm
        self.geometry = _Geometry.of(convolution)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Convolve with the parameters as they are now."""
        return self.geometry.convolve(x, *self.weight_and_bias())

    def weight_and_bias(self) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias that contain the norm."""
        norm, weight, bias = self.norm, self.convolution.weight, self.convolution.bias
        mean, var = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
        scale = (var + norm.eps).rsqrt()
        if norm.affine:
            scale = scale * norm.weight
        shift = (-mean if bias is None else bias - mean) * scale
        return weight * scale[:, None, None, None], shift + norm.bias if norm.affine else shift


class SettledConvolution(nn.Module):
    """A folded convolution whose parameters no longer change."""

    def __init__(self, folded: FoldedConvolution) -> None:
        super().__init__()
        weight, bias = folded.weight_and_bias()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)
        self.geometry = folded.geometry

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Convolve."""
        return self.geometry.convolve(x, self.weight, self.bias)


def foldable_pairs(network: nn.Module) -> list[Pair]:
    """Return each convolution whose output goes to a batch norm and nowhere else."""
    return list(_pairs(network))


def fold(network: nn.Module, pairs: Sequence[Pair], *, settled: bool = False) -> None:
    """Put convolutions with their norms in the place of pairs.

    Args:
        network: Changed in place.
        pairs: From `foldable_pairs`.
        settled: Whether its parameters do not change any more.
    """
    for convolution, norm in pairs:
        old: Any = network.get_submodule(norm)
        folded = FoldedConvolution(cast("nn.Conv2d", network.get_submodule(convolution)), old)
        network.set_submodule(convolution, SettledConvolution(folded) if settled else folded)
        network.set_submodule(norm, _rest(old) or nn.Identity())


def folded_view(module: M, name: str) -> M:
    """Return a module that computes the same with less, for training with fixed statistics.

    It consists of other modules, which share all parameters and buffers with the given one: what
    learns is that.

    Args:
        module: Its batch norms are taken to be in evaluation mode.
        name: Of the network in it whose norms are folded.
    """
    shared = (*module.parameters(), *module.buffers())
    same = copy.deepcopy(module, {id(tensor): tensor for tensor in shared})
    network = same.get_submodule(name)
    fold(network, foldable_pairs(network))
    return same


class _Tracer(fx.Tracer):
    """Follows a network down to convolutions and norms, of which other libraries have their own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(
            m, module_qualified_name
        )


def _pairs(network: nn.Module) -> Iterator[Pair]:
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
        follows = before.op == "call_module" and _is_plain(modules[pair[0]])
        if follows and len(before.users) == 1 and all(called.count(name) == 1 for name in pair):
            yield pair


def _is_plain(module: nn.Module) -> bool:
    """Return whether a module is a convolution by its weight as it is; some change it first."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module) in {nn.Conv2d, Conv2dSame}
        and module.padding_mode == "zeros"
        and not module._forward_hooks  # noqa: SLF001  # torch has no public way to ask
    )


def _is_foldable(module: nn.Module) -> bool:
    """Return whether a module is PyTorch's batch norm, or timm's with its activation."""
    plain = type(module) is nn.BatchNorm2d or _rest(module) is not None
    followed = module._forward_hooks or module._forward_pre_hooks  # noqa: SLF001  # as above
    fixed = isinstance(module, nn.BatchNorm2d) and module.running_var is not None
    return plain and fixed and not followed


def _rest(norm: nn.Module) -> nn.Module | None:
    """Return what timm's batch norm does beside normalising."""
    drop, activation = getattr(norm, "drop", None), getattr(norm, "act", None)
    if isinstance(drop, nn.Module) and isinstance(activation, nn.Module):
        return nn.Sequential(drop, activation)
    return None
