"""Backbones to experiment on: each test gets its own copy, the files are read once."""

import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipcore import backbone
from clipcore.backbone import Backbone


@pytest.fixture(scope="session")
def loaded_vit(tiny_clip: Path) -> Backbone:
    """Return a tiny ViT CLIP that no test changes."""
    return backbone.load(f"local-dir:{tiny_clip}")


@pytest.fixture(scope="session")
def tiny_timm_clip(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny CLIP whose image tower is what timm tests itself with: it has batch norms."""
    folder = tmp_path_factory.mktemp("clip") / "timm"
    folder.mkdir()
    description = json.loads((tiny_clip / "open_clip_config.json").read_text())
    description["model_cfg"]["vision_cfg"] = {
        "timm_model_name": "test_efficientnet",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 64,
    }
    (folder / "open_clip_config.json").write_text(json.dumps(description))
    model = open_clip.CLIP(**description["model_cfg"])
    draws = torch.Generator().manual_seed(0)
    state = model.state_dict()
    for name, value in state.items():
        if name.startswith("visual.") and value.is_floating_point():
            spread = torch.rand(value.shape, generator=draws)  # also of the norms' statistics
            drawn = torch.randn(value.shape, generator=draws) / max(1, value[0:1].numel()) ** 0.5
            state[name] = drawn if value.ndim > 1 else 0.5 + spread
    text = load_file(tiny_clip / "open_clip_model.safetensors")
    state |= {name: value for name, value in text.items() if not name.startswith("visual.")}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def loaded_timm(tiny_timm_clip: Path) -> Backbone:
    """Return that CLIP; no test changes it."""
    return backbone.load(f"local-dir:{tiny_timm_clip}")


@pytest.fixture(scope="session")
def loaded_embedded() -> Backbone:
    """Return the backbone that ships with coft; no test changes it."""
    return backbone.load("embedded")


@pytest.fixture
def vit(loaded_vit: Backbone) -> Backbone:
    return loaded_vit.own_copy(text=True)


@pytest.fixture
def timm(loaded_timm: Backbone) -> Backbone:
    return loaded_timm.own_copy(text=True)


@pytest.fixture
def shipped(loaded_embedded: Backbone) -> Backbone:
    return loaded_embedded.own_copy(text=True)


@pytest.fixture
def fresh(loaded_vit: Backbone, loaded_timm: Backbone) -> Callable[[str], Backbone]:
    """Return `make(kind)`: another copy of the "vit" or "timm" backbone with each call."""
    return lambda kind: (loaded_vit if kind == "vit" else loaded_timm).own_copy(text=True)


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
