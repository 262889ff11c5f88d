"""A ViT-B/16 as open_clip describes it, with random weights: what it knows costs no time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clipcore.backbone import VisualTower
from tests.bench.measure import seconds

NAME = "ViT-B-16"
PREPROCESS = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
QUICK = {
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 64,
        "heads": 2,
        "layers": 2,
    },
}


def write_vit(folder: Path, *, quick: bool) -> str:
    """Write the model as a folder that `--backbone` takes, and return its name.

    Args:
        folder: Made if it is not there; one that has the model already is left as it is.
        quick: Take two narrow blocks instead.
    """
    name = f"local-dir:{folder}"
    if (folder / "open_clip_config.json").exists():
        return name
    config: dict[str, Any] = open_clip.get_model_config(NAME)
    config |= QUICK if quick else {}
    weights = open_clip.CLIP(**config).state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {key: value.contiguous() for key, value in weights.items()}
    save_file(contiguous, folder / "open_clip_model.safetensors")
    description = {"model_cfg": config, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(description))
    return name


def bare_loop(tower: VisualTower, *, batch: int, batches: int) -> Callable[[], float]:
    """Return a measurement: images a second of bf16 weights on input that lies on the device.

    That is the most that the device makes of the tower as open_clip gives it. Changes the tower.
    """
    device = tower.mean.device
    network: nn.Module = tower.network.to(torch.bfloat16).eval()
    size = tower.preprocess.size
    x = torch.rand(batch, 3, size, size, device=device, dtype=torch.bfloat16)
    return lambda: rate(network, x, batches=batches)


@torch.inference_mode()
def rate(encode: Callable[[Tensor], object], x: Tensor, *, batches: int) -> float:
    """Return how many images a second `encode` takes when it is given the same batch again."""

    def loop() -> None:
        for _ in range(batches):
            encode(x)

    return batches * len(x) / seconds(loop)
