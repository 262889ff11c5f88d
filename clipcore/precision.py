"""fp32 parameters, bf16 arithmetic where the device is built for it, losses in fp32."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether bf16 arithmetic is faster than fp32 on the device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001  # torch has no public name


def trains_in_bf16(device: torch.device, *, convolutions: bool) -> bool:
    """Return whether a tower trains in bf16 autocast: where it is fast; see `mixed`."""
    return has_fast_bf16(device) and not (convolutions and device.type == "cpu")


@contextmanager
def mixed(device: torch.device, *, training: bool, convolutions: bool = False) -> Iterator[None]:
    """Run the block in bf16 autocast if the device gains from it.

    Two exceptions on a CPU: training uses the plain attention kernel, because the bf16 backward
    pass of the fused one is slow on short sequences; and a convolutional tower trains in fp32,
    because the bf16 backward pass of convolutions is slow.

    Args:
        device: Device of the model.
        training: Whether the block runs a backward pass.
        convolutions: Whether the tower is convolutional.
    """
    fast = trains_in_bf16(device, convolutions=training and convolutions)
    plain = training and fast and device.type == "cpu"
    with (
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast),
        sdpa_kernel(SDPBackend.MATH) if plain else nullcontext(),
    ):
        yield
