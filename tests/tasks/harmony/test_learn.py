"""A stage that was written and cannot be read is told."""

from pathlib import Path

import pytest

from tasks.harmony.learn import load_state
from tasks.specs import InputError
from tasks.storage.checkpoints import write_tensors


def test_broken_weights_are_told(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"half of it")
    with pytest.raises(InputError, match="learn these stages again"):
        load_state(str(tmp_path))
    write_tensors(str(tmp_path), "weights.safetensors", {}, {})
    with pytest.raises(InputError, match="learn these stages again"):
        load_state(str(tmp_path))
