"""Random views: which pixels of the image they show."""

import open_clip
import pytest
import torch
import torch.nn.functional as F

from clipcore import augment
from clipcore.augment import random_view, view_size
from clipcore.backbone import Backbone, build_visual
from clipcore.images import Preprocess
from tests.worlds.tensors import draws


def coordinates(batch: int, size: int) -> torch.Tensor:
    """Return images whose red is the column and whose green is the row, both from -1 to 1."""
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    red, green = line.expand(size, size), line[:, None].expand(size, size)
    return torch.stack([red, green, torch.zeros(size, size)]).expand(batch, -1, -1, -1)


def test_a_view_is_a_square_crop_of_half_to_all_of_the_area() -> None:
    seen = random_view(coordinates(500, 64), generator=draws(), size=64, flip=False)
    left, right = seen[:, 0, :, 0].mean(1), seen[:, 0, :, -1].mean(1)
    top, bottom = seen[:, 1, 0].mean(1), seen[:, 1, -1].mean(1)
    width, height = (right - left) / 2 * 64 / 63, (bottom - top) / 2 * 64 / 63
    torch.testing.assert_close(width, height, atol=0.02, rtol=0)
    area = width * height
    assert area.min() > 0.48
    assert area.max() < 1.02
    assert area.mean().item() == pytest.approx(0.75, abs=0.03)
    for low, high in ((left, right), (top, bottom)):
        assert low.min() >= -1
        assert high.max() <= 1
        assert (low + high).mean().abs() < 0.03  # crops lie anywhere


def test_half_of_the_views_are_mirrored_when_asked() -> None:
    x = coordinates(400, 16)
    both = random_view(x, generator=draws(), size=16)
    mirrored = both[:, 0, :, 0].mean(1) > both[:, 0, :, -1].mean(1)
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.08)
    upright = random_view(x, generator=draws(), size=16, flip=False)
    assert (upright[:, 0, :, 0].mean(1) < upright[:, 0, :, -1].mean(1)).all()
    assert (both[:, 1, 0].mean(1) < both[:, 1, -1].mean(1)).all()  # never upside down
    torch.testing.assert_close(both[mirrored].flip(3), upright[mirrored], atol=1e-5, rtol=0)


def test_views_follow_the_generator() -> None:
    x = torch.rand(4, 3, 16, 16, generator=draws())
    one, two, other = (random_view(x, generator=draws(seed), size=16) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_views_come_out_at_the_size_asked_for() -> None:
    seen = random_view(coordinates(3, 64), generator=draws(), size=48)
    assert seen.shape == (3, 3, 48, 48)


def test_towers_with_positions_train_at_their_size_and_others_at_that_of_crops(
    vit: Backbone, shipped: Backbone
) -> None:
    assert view_size(vit.visual) == vit.visual.preprocess.size == 32
    assert shipped.visual.preprocess.size == 128
    assert view_size(shipped.visual) == 112
    with torch.no_grad():
        assert shipped.visual.encode_input(torch.zeros(1, 3, 112, 112)).shape == (
            1,
            shipped.embed_dim,
        )


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("convnext_tiny", 192),
        ("EVA02-B-16", 224),
        ("MobileCLIP-B", 224),
        ("swin_base_patch4_window7_224", 224),
        ("vit_relpos_medium_patch16_cls_224", 224),
        ("ViTamin-S", 224),
    ],
)
def test_every_kind_of_tower_takes_views_of_its_size(name: str, size: int) -> None:
    config = open_clip.get_model_config(name)
    half = (0.5, 0.5, 0.5)
    with torch.device("meta"), torch.no_grad():
        tower = build_visual(config, Preprocess(224, half, half)).eval()
        assert view_size(tower) == size
        assert tower.network(torch.empty(1, 3, size, size)).shape == (1, tower.dim)


def test_mean_side_is_that_of_the_crops() -> None:
    area = torch.empty(100_000).uniform_(augment.MIN_AREA, 1, generator=draws())
    assert area.sqrt().mean().item() == pytest.approx(augment.MEAN_SIDE, abs=1e-3)


def test_a_view_shows_the_image_and_no_border() -> None:
    x = F.interpolate(torch.rand(20, 3, 4, 4, generator=draws()) + 1, 32)
    seen = random_view(x, generator=draws(), size=32)
    assert seen.min() >= x.min() - 1e-4
    assert seen.max() <= x.max() + 1e-4
