"""Features of positions: where they lie, and that their mean is the feature of a tower."""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore import adapters, backbone
from clipcore.adapters import Adapter, AdapterName
from clipcore.backbone import Backbone, VisualTower
from clipcore.backbone_names import UnsupportedBackbone
from clipcore.feature_maps import feature_map
from tests.worlds.tensors import draws, random_pixels

Fresh = Callable[[str], Backbone]


def input_of(tower: VisualTower, count: int = 2) -> Tensor:
    return tower.to_input(random_pixels(count, tower.preprocess.size))


@torch.no_grad()
def mapped(tower: VisualTower, x: Tensor, side: int) -> Tensor:
    return feature_map(tower, x, side=side)


def attach(tower: VisualTower, name: AdapterName) -> Adapter:
    return adapters.attach(tower, name, generator=draws(), num_visual_prompts=3, lora_rank=2)


def learn(adapter: Adapter, only: str = "") -> None:
    """Change what was learned, of which names hold `only`."""
    with torch.no_grad():
        for name, value in adapter.tensors().items():
            if only in name:
                value.add_(0.3 * torch.randn(value.shape, generator=draws(1)))


# --- the mean is the feature ----------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2, 4])
def test_their_mean_is_the_feature_of_the_shipped_tower(
    side: int, loaded_embedded: Backbone
) -> None:
    tower = loaded_embedded.visual
    x = input_of(tower)
    found = mapped(tower, x, side)
    assert found.shape == (2, side * side, tower.dim)
    with torch.no_grad():
        expected = tower.encode_input(x)
    mean = F.normalize(found.mean(dim=1), dim=1)
    torch.testing.assert_close(mean, expected, atol=1e-5, rtol=0)


def test_more_positions_than_pixels_are_copies(timm: Backbone) -> None:
    tower = timm.visual
    found = mapped(tower, input_of(tower), 8)
    assert found.shape == (2, 64, tower.dim)
    assert len(found[0].unique(dim=0)) < 64


def test_positions_are_row_by_row(loaded_embedded: Backbone) -> None:
    tower = loaded_embedded.visual
    x = input_of(tower)
    found = mapped(tower, x, 4)
    with torch.no_grad():
        grid = tower.network.trunk.forward_features(x)
        assert grid.shape[2:] == (4, 4)
        for row, column in itertools.product(range(4), repeat=2):
            expected = tower.network.head(grid[:, :, row, column])
            torch.testing.assert_close(found[:, 4 * row + column], expected, atol=1e-5, rtol=0)


# --- vision transformers --------------------------------------------------------------------------


def glyph_tokens(tower: VisualTower, x: Tensor) -> Tensor:
    """Return all tokens of open_clip's ViT in its space, position by position."""
    network = tower.network
    network.output_tokens = True
    try:
        with torch.no_grad():
            _, tokens = network(x)  # after the last norm, without the class token
    finally:
        network.output_tokens = False
    result: Tensor = tokens @ network.proj
    return result


@pytest.fixture(scope="module")
def glyph() -> Backbone:
    return backbone.load("embedded:glyph")


def test_a_vit_has_a_feature_for_each_patch(glyph: Backbone) -> None:
    tower = glyph.visual
    x = input_of(tower)
    found = mapped(tower, x, 4)
    assert found.shape == (2, 16, 128)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, glyph_tokens(tower, x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [1, 2])
def test_positions_of_a_vit_are_means_of_patches(side: int, glyph: Backbone) -> None:
    tower = glyph.visual
    x = input_of(tower)
    patches = mapped(tower, x, 4).unflatten(1, (4, 4))
    found = mapped(tower, x, side).unflatten(1, (side, side))
    step = 4 // side
    for row in range(side):
        for column in range(side):
            covered = patches[:, row * step : (row + 1) * step, column * step : (column + 1) * step]
            torch.testing.assert_close(
                found[:, row, column], covered.mean(dim=(1, 2)), atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("name", ["vpt", "lora"])
def test_what_an_adapter_learned_inside_of_a_vit_is_seen(name: AdapterName, fresh: Fresh) -> None:
    plain, tower = fresh("vit").visual, fresh("vit").visual
    learn(attach(tower, name))
    x = input_of(plain)
    before, after = mapped(plain, x, 2), mapped(tower, x, 2)
    assert after.shape == before.shape == (2, 4, 32)
    assert not torch.isclose(before, after, atol=1e-3).all(dim=-1).any()


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_a_correction_of_the_pooled_feature_is_left_out(kind: str, fresh: Fresh) -> None:
    plain, tower = fresh(kind).visual, fresh(kind).visual
    learn(attach(tower, "bottleneck"), "up")
    x = input_of(plain)
    assert torch.equal(mapped(tower, x, 2), mapped(plain, x, 2))
    with torch.no_grad():
        assert not torch.isclose(tower.encode_input(x), plain.encode_input(x), atol=1e-3).all()


def test_norms_that_an_adapter_tuned_are_seen(fresh: Fresh) -> None:
    """With no correction beside them the mean is the feature as before."""
    plain, tower = fresh("timm").visual, fresh("timm").visual
    adapter = attach(tower, "bottleneck")
    with torch.no_grad():
        for name, value in adapter.tensors().items():
            if name.startswith("norm:"):
                value.mul_(1.1)
    x = input_of(tower)
    found = mapped(tower, x, 2)
    with torch.no_grad():
        expected = tower.encode_input(x)
    torch.testing.assert_close(F.normalize(found.mean(dim=1), dim=1), expected, atol=1e-5, rtol=0)
    assert not torch.isclose(found, mapped(plain, x, 2), atol=1e-3).all()


# --- what has no map ------------------------------------------------------------------------------


def test_a_tower_with_attention_pooling_has_none(vit: Backbone) -> None:
    tower = vit.visual
    tower.network.attn_pool = torch.nn.Identity()
    with pytest.raises(UnsupportedBackbone, match="attention pooling"):
        mapped(tower, input_of(tower), 2)


def test_a_tower_whose_head_is_not_linear_has_none(timm: Backbone) -> None:
    tower = timm.visual
    tower.network.head.add_module("mlp", torch.nn.Identity())
    with pytest.raises(UnsupportedBackbone, match="not linear"):
        mapped(tower, input_of(tower), 2)
