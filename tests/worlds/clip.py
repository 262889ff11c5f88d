"""A tiny CLIP in the form that open_clip reads: random weights out of a seed."""

import functools
import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def write_tiny_clip(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """Write the configuration, with changes, and the weights as open_clip's `local-dir:`."""
    model_config = {**TINY_CLIP, **config}
    model = open_clip.CLIP(**model_config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim > 1 or name.endswith("class_embedding"):
                weight.normal_(std=weight.shape[-1] ** -0.5, generator=generator)
            elif name.endswith("bias"):
                weight.normal_(std=0.05, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocess})
    )
    return folder


def local_dir(parent: Path, source: Path, **config: Any) -> Path:
    """Copy a model's folder without its weights, with changes to its configuration."""
    folder = parent / "model"
    folder.mkdir()
    description = json.loads((source / "open_clip_config.json").read_text())
    description["model_cfg"] |= config
    (folder / "open_clip_config.json").write_text(json.dumps(description))
    return folder


@functools.cache
def open_clip_config(name: str) -> dict[str, Any]:
    """Return the configuration of one of open_clip's models; nobody changes it."""
    config: dict[str, Any] = open_clip.get_model_config(name)
    return config
