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


# --- strong views ---------------------------------------------------------------------------------

RGB = Preprocess(32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def colours(batch: int) -> torch.Tensor:
    """Return images of a size of 8 with values from 0.3 to 0.7."""
    return 0.3 + 0.4 * torch.rand(batch, 3, 8, 8, generator=draws(5))


def test_colours_change_as_the_changes_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brightness, then contrast, then hue, then saturation, pixel by pixel."""
    monkeypatch.setattr(augment, "GREY", 0.0)
    monkeypatch.setattr(augment, "RECOLOURED", 1.0)
    monkeypatch.setattr(augment, "JITTER", 0.2)
    x = colours(2)
    found = augment.recolour(x, generator=draws())
    draw = draws()
    factors = 1 + 0.2 * (2 * torch.rand(2, 3, generator=draw) - 1)
    turns = augment.HUE * (2 * torch.rand(2, generator=draw) - 1)
    for image in range(2):
        brightness, contrast, saturation = factors[image]
        y = x[image] * brightness
        weights = torch.tensor(augment.GREY_OF_RGB)[:, None, None]
        y = y * contrast + (1 - contrast) * (y * weights).sum(0).mean()
        angle = 2 * torch.pi * turns[image]
        axis = torch.ones(3) / 3**0.5
        flat = y.reshape(3, -1).T  # Rodrigues' rotation around the grey axis
        along = (flat @ axis)[:, None] * axis
        across = torch.linalg.cross(axis.expand_as(flat), flat)
        y = (along + (flat - along) * angle.cos() + across * angle.sin()).T.reshape(y.shape)
        y = y * saturation + (1 - saturation) * (y * weights).sum(0)
        torch.testing.assert_close(found[image], y.clamp(0, 1), atol=1e-5, rtol=0)


def test_some_images_become_grey_and_a_fifth_keep_their_colours() -> None:
    x = colours(600)
    found = augment.recolour(x, generator=draws())
    is_grey = (found.amax(1) - found.amin(1)).amax((1, 2)) < 1e-5
    assert is_grey.float().mean().item() == pytest.approx(augment.GREY, abs=0.05)
    is_kept = (found - x).abs().amax((1, 2, 3)) < 1e-5
    kept = (1 - augment.RECOLOURED) * (1 - augment.GREY)
    assert is_kept.float().mean().item() == pytest.approx(kept, abs=0.05)
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_blur_is_a_gaussian_of_half_of_the_images() -> None:
    x = torch.zeros(200, 3, 33, 33)
    x[:, :, 16, 16] = 1
    found = augment.blur(x, generator=draws())
    sigma = torch.empty(200).uniform_(*augment.BLUR, generator=draws())
    is_blurred = found[:, 0, 16, 16] < 1
    narrow = sigma < 0.2  # such a Gaussian leaves the pixel as it is
    assert is_blurred[~narrow].float().mean().item() == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(found.sum((2, 3)), torch.ones(200, 3))
    (first, *_) = torch.nonzero(is_blurred & (sigma > 1)).flatten().tolist()
    across = found[first, 0, 16] / found[first, 0, 16, 16]
    expected = torch.exp(-((torch.arange(33) - 16) ** 2) / (2 * sigma[first] ** 2))
    near = slice(16 - augment.BLUR_RADIUS, 17 + augment.BLUR_RADIUS)
    torch.testing.assert_close(across[near], expected[near], atol=1e-5, rtol=0)


def test_strong_views_are_smaller_crops_that_follow_the_generator() -> None:
    x = coordinates(300, 32)
    seen = augment.strong_view(x, RGB, generator=draws(), size=32, flip=False, colours=False)
    width = (seen[:, 0, :, -1].mean(1) - seen[:, 0, :, 0].mean(1)) / 2 * 32 / 31
    assert (width**2).min() < 0.3
    x = colours(4)
    one, two, other = (
        augment.strong_view(x, RGB, generator=draws(seed), size=8) for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_strong_views_are_normalised_as_the_tower_wants() -> None:
    preprocess = Preprocess(32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    x = colours(3)
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocess.mean, preprocess.std))
    expected = (augment.strong_view(x, RGB, generator=draws(), size=8) - mean) / std
    found = augment.strong_view((x - mean) / std, preprocess, generator=draws(), size=8)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_square_of_half_the_side_is_cut_out_anywhere() -> None:
    x = torch.ones(400, 2, 16, 24)
    found = augment.cut_out(x, generator=draws())
    is_cut = (found == 0).all(dim=1)
    assert torch.equal(found != 0, ~is_cut[:, None].expand_as(found))
    rows, columns = is_cut.any(dim=2), is_cut.any(dim=1)
    assert torch.equal(is_cut, rows[:, :, None] & columns[:, None, :])
    for sides, most in ((rows, 8), (columns, 12)):
        assert int(sides.sum(dim=1).max()) == most
        assert int(sides.sum(dim=1).min()) <= most // 2 + 1  # the centre is near the border
        assert sides.any(dim=0).all()  # every place is cut sometimes


def test_masked_views_keep_half_of_the_area_and_hide_a_square_of_it() -> None:
    seen = augment.masked_view(coordinates(300, 32), RGB, generator=draws(), size=32, colours=False)
    plain = random_view(coordinates(300, 32), generator=draws(), size=32)
    is_cut = (seen == 0).all(dim=1, keepdim=True)
    assert 0.1 < is_cut.float().mean() < 0.25
    assert torch.equal(seen, plain.masked_fill(is_cut, 0))


def test_masked_views_without_a_hole_hide_nothing() -> None:
    x = coordinates(20, 32)
    seen = augment.masked_view(x, RGB, generator=draws(), size=32, colours=False, hole=False)
    assert torch.equal(seen, random_view(x, generator=draws(), size=32))


def test_masked_views_follow_the_generator_and_change_colours() -> None:
    x = colours(4)
    one, two, other, plain = (
        augment.masked_view(x, RGB, generator=draws(seed), size=8, colours=change)
        for seed, change in ((1, True), (1, True), (2, True), (1, False))
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert not torch.allclose(one, plain, atol=0.05)
