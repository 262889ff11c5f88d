"""A model's folder is taken as it is, unless it names files that lie elsewhere."""

import json
from pathlib import Path

import pytest

from tasks.specs import InputError, RuntimeSpec
from tasks.storage.layout import DESCRIPTION
from tasks.tracking.registry_model import find_model


def test_weights_that_lie_elsewhere_are_not_read(bundle: Path, tmp_path: Path) -> None:
    runtime = RuntimeSpec(workspace=str(tmp_path / "work"))
    assert find_model.fn(str(bundle), runtime).uri == str(bundle)
    (tmp_path / "models" / "secret.safetensors").write_bytes(b"x")
    description = json.loads((bundle / DESCRIPTION).read_text())
    description["members"][1] = "../secret.safetensors"
    (bundle / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(InputError, match=r"expected weights beside model.json, got '../secret"):
        find_model.fn(str(bundle), runtime)
