"""Weights and training state in safetensors, with a JSON header; never a pickle."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

HEADER = "coft"


def to_bytes(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Serialise tensors and a header of JSON values."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(on_cpu, metadata={HEADER: json.dumps(header, sort_keys=True)})


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, shapes and values of tensors."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        sha.update(values.view(torch.uint8).numpy().tobytes())  # NumPy has no bfloat16
    return sha.hexdigest()


def read(path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the header of a local file."""
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under `prefix.name`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix.`, without it; undoes `prefixed`."""
    start = f"{prefix}."
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state (momenta, step counts) by parameter number and name."""
    states = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": value
        for number, state in states.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the state that `optimizer_tensors` returned.

    Each tensor lies in memory as its parameter does: files have rows one after the other, and a
    fused optimizer that meets another order takes the wrong numbers, without a word.
    """
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = _laid_out(value, parameters[int(number)])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in the memory order of another one of its shape; others as they are."""
    if value.shape != like.shape:
        return value
    return torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)
