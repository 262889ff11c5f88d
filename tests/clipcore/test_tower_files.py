"""Towers as files: they see the same after loading, with what is attached to them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clipcore import adapters
from clipcore.backbone import Backbone
from clipcore.description import BrokenModel
from clipcore.feature_maps import feature_map
from clipcore.tower_files import file_of, load_tower, save_tower
from tests.worlds.tensors import draws, random_pixels

Fresh = Callable[[str], Backbone]


@pytest.mark.parametrize(
    ("kind", "attached"),
    [
        ("vit", []),
        ("vit", [{"name": "vpt", "num_visual_prompts": 3}]),
        ("vit", [{"name": "lora", "lora_rank": 2}, {"name": "vpt", "num_visual_prompts": 2}]),
        ("timm", [{"name": "bottleneck"}]),
    ],
)
def test_a_loaded_tower_sees_as_before(
    kind: str, attached: list[dict[str, Any]], fresh: Fresh, tmp_path: Path
) -> None:
    backbone = fresh(kind)
    tower = backbone.visual
    for arguments in attached:
        adapter = adapters.attach(tower, generator=draws(), **arguments)
        with torch.no_grad():
            for number, parameter in enumerate(adapter.parameters()):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws(number)))
    described = save_tower(tmp_path, 0, (tower, backbone.config, {}), attached)
    loaded = load_tower(tmp_path, 0, described)
    pixels = random_pixels(2, tower.preprocess.size)
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels), tower(pixels))
        x = tower.to_input(pixels)
        torch.testing.assert_close(feature_map(loaded, x, side=2), feature_map(tower, x, side=2))


def test_a_tower_without_its_file_is_refused(fresh: Fresh, tmp_path: Path) -> None:
    backbone = fresh("vit")
    described = save_tower(tmp_path, 0, (backbone.visual, backbone.config, {}))
    (tmp_path / file_of(0)).unlink()
    with pytest.raises(BrokenModel, match="Copy the whole folder again"):
        load_tower(tmp_path, 0, described)
