"""Backbones to experiment on: each test gets its own copy, the files are read once."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from clipcore import backbone
from clipcore.backbone import Backbone


@pytest.fixture(scope="session")
def loaded_vit(tiny_clip: Path) -> Backbone:
    """Return a tiny ViT CLIP that no test changes."""
    return backbone.load(f"local-dir:{tiny_clip}")


@pytest.fixture(scope="session")
def loaded_timm() -> Backbone:
    """Return the embedded backbone (a convolutional tower with batch norms); no test changes it."""
    return backbone.load("embedded")


@pytest.fixture
def vit(loaded_vit: Backbone) -> Backbone:
    return _copy(loaded_vit)


@pytest.fixture
def timm(loaded_timm: Backbone) -> Backbone:
    return _copy(loaded_timm)


@pytest.fixture
def fresh(loaded_vit: Backbone, loaded_timm: Backbone) -> Callable[[str], Backbone]:
    """Return `make(kind)`: another copy of the "vit" or "timm" backbone with each call."""
    return lambda kind: _copy(loaded_vit if kind == "vit" else loaded_timm)


@pytest.fixture(scope="session")
def custom_text_clip(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny CLIP as open_clip's CustomTextCLIP: the same weights under other names."""
    folder = tmp_path_factory.mktemp("clip") / "custom-text"
    folder.mkdir()
    description = json.loads((tiny_clip / "open_clip_config.json").read_text())
    description["model_cfg"]["custom_text"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(description))
    weights = load_file(tiny_clip / "open_clip_model.safetensors")
    save_file(
        {
            name if name.startswith(("visual.", "logit_")) else f"text.{name}": value
            for name, value in weights.items()
        },
        folder / "open_clip_model.safetensors",
    )
    return folder


def _copy(loaded: Backbone) -> Backbone:
    """Copy everything but the tokenizer, which is large and never changes."""
    return copy.deepcopy(loaded, {id(loaded._tokenizer): loaded._tokenizer})
