"""Training state on disk: bit for bit what it was, and nothing that runs when it is read."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from clipcore import checkpoint

TENSORS = {
    "a.weight": torch.randn(3, 4),
    "a.transposed": torch.randn(3, 4).T,
    "a.part": torch.randn(10)[::2],
    "b": torch.tensor(1.5),
    "c": torch.arange(4),
    "d": torch.randn(2, 2).bfloat16(),
}
HEADER = {"epoch": 3, "history": [{"loss": 0.1}], "name": "ünïcode"}


def write(path: Path) -> str:
    path.write_bytes(checkpoint.to_bytes(TENSORS, HEADER))
    return str(path)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    tensors, header = checkpoint.read(write(tmp_path / "state.safetensors"))
    assert header == HEADER
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


def test_learning_tensors_are_written_too(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.randn(3))
    path = tmp_path / "state.safetensors"
    path.write_bytes(checkpoint.to_bytes({"p": parameter}, {}))
    assert torch.equal(checkpoint.read(str(path))[0]["p"], parameter)


def test_a_file_is_json_and_numbers(tmp_path: Path) -> None:
    """Eight bytes of length, a JSON object, raw numbers: the format has no place for code."""
    data = Path(write(tmp_path / "state.safetensors")).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    description = json.loads(data[8 : 8 + length])
    sizes = [entry["data_offsets"] for name, entry in description.items() if name in TENSORS]
    assert len(data) == 8 + length + max(end for _, end in sizes)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "state.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SafetensorError):
        checkpoint.read(str(path))


def test_prefixes_are_taken_off_again() -> None:
    both = {**checkpoint.prefixed("one", TENSORS), **checkpoint.prefixed("one.two", TENSORS)}
    assert checkpoint.under("one.two", both) == TENSORS
    assert checkpoint.under("on", both) == {}
    assert checkpoint.under("one", checkpoint.prefixed("one", TENSORS)) == TENSORS


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.SGD, {}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.AdamW, {"amsgrad": True}),
    ],
)
def test_optimizer_continues_as_if_it_had_not_stopped(
    kind: type[torch.optim.Optimizer], options: dict[str, float], tmp_path: Path
) -> None:
    def model_and_optimizer() -> tuple[nn.Linear, torch.optim.Optimizer]:
        model = nn.Linear(3, 2)
        return model, kind(model.parameters(), lr=0.1, **options)

    def step(model: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.arange(6.0).reshape(2, 3)).square().sum().backward()
        optimizer.step()

    model, optimizer = model_and_optimizer()
    other, restored = model_and_optimizer()
    for _ in range(3):
        step(model, optimizer)
    state = {
        **checkpoint.prefixed("weights", model.state_dict()),
        **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
    }
    path = tmp_path / "state.safetensors"
    path.write_bytes(checkpoint.to_bytes(state, {}))
    tensors, _ = checkpoint.read(str(path))
    other.load_state_dict(checkpoint.under("weights", tensors))
    checkpoint.restore_optimizer(restored, checkpoint.under("optimizer", tensors))
    for _ in range(2):
        step(model, optimizer)
        step(other, restored)
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(model.bias, other.bias)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_fused_optimizer_continues_whatever_order_weights_have_in_memory(
    order: torch.memory_format, tmp_path: Path
) -> None:
    start = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    target = torch.randn(start.shape, generator=torch.Generator().manual_seed(1))

    def new() -> tuple[nn.Parameter, torch.optim.Optimizer]:
        weight = nn.Parameter(start.clone(memory_format=order))
        return weight, torch.optim.AdamW([weight], 0.01, fused=True)

    def step(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()

    (weight, optimizer), (other, restored) = new(), new()
    for _ in range(3):
        step(weight, optimizer)
    path = tmp_path / "state.safetensors"
    path.write_bytes(checkpoint.to_bytes(checkpoint.optimizer_tensors(optimizer), {}))
    checkpoint.restore_optimizer(restored, checkpoint.read(str(path))[0])
    with torch.no_grad():
        other.copy_(weight)
    for _ in range(3):
        step(weight, optimizer)
        step(other, restored)
    assert torch.equal(weight, other)
