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


@contextmanager
def mixed(device: torch.device, *, training: bool, convolutions: bool = False) -> Iterator[None]:
    """Run what follows in bf16 autocast if the device gains from it.

    Two exceptions on a CPU, measured with torch 2.15: training takes the plain attention kernel,
    because the fused one is several times slower in its bf16 backward pass on short sequences; and
    a convolutional tower trains in fp32, because their bf16 backward pass is half as fast.
    """
    fast = has_fast_bf16(device) and not (training and convolutions and device.type == "cpu")
    plain = training and fast and device.type == "cpu"
    with (
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast),
        sdpa_kernel(SDPBackend.MATH) if plain else nullcontext(),
    ):
        yield
