"""Towers for inference: the same features, quicker; and batches that fit into memory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clipcore import adapters, precision
from clipcore.adapters import AdapterName
from clipcore.backbone import Backbone, VisualTower
from clipcore.inference import BATCH_ON_CPU, LARGEST_BATCH, BatchSize, Encoder, largest_batch
from tests.worlds.tensors import draws, random_pixels, same, snapshot

PAIRS = [("vit", "vpt"), ("vit", "lora"), ("vit", "bottleneck"), ("timm", "bottleneck")]
Fresh = Callable[[str], Backbone]


@pytest.fixture
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _: False)


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _: True)


def adapted(fresh: Fresh, kind: str, name: AdapterName) -> VisualTower:
    """Return a tower with an adapter that has learned something."""
    tower = fresh(kind).visual
    adapter = adapters.attach(tower, name, generator=draws(), num_visual_prompts=3, lora_rank=2)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws(1)))
    return tower


def pixels_for(tower: VisualTower) -> Tensor:
    return random_pixels(3, tower.preprocess.size)


def norms(module: nn.Module) -> int:
    return sum(isinstance(inner, nn.BatchNorm2d) for inner in module.modules())


@pytest.mark.usefixtures("fp32")
@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_features_are_those_of_the_tower_and_its_adapters(
    kind: str, name: AdapterName, fresh: Fresh
) -> None:
    tower = adapted(fresh, kind, name)
    with torch.no_grad():
        expected = tower(pixels_for(tower))
    torch.testing.assert_close(Encoder(tower)(pixels_for(tower)), expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("fp32")
def test_all_norms_of_the_shipped_tower_are_folded_and_nothing_changes(shipped: Backbone) -> None:
    tower = shipped.visual
    before, sha = snapshot(tower.state_dict()), shipped.weights_sha256()
    assert norms(tower) == 49
    encode = Encoder(tower)
    assert norms(encode._tower) == 0
    with torch.no_grad():
        expected = tower(pixels_for(tower))
    torch.testing.assert_close(encode(pixels_for(tower)), expected, atol=1e-5, rtol=0)
    assert same(tower.state_dict(), before)
    assert shipped.weights_sha256() == sha
    assert norms(tower) == 49


@pytest.mark.usefixtures("fp32")
def test_a_norm_is_folded_only_into_the_convolution_that_feeds_it_alone(timm: Backbone) -> None:
    class Forked(nn.Module):
        """The first convolution goes to the norm and past it; the second norm has none."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.last, self.late = nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5)
            self.alone = nn.BatchNorm2d(5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            z = self.late(self.last(self.norm(y) + y))
            return self.alone(z.relu()).mean(dim=(2, 3))

    network = Forked().eval()
    for norm in (network.norm, network.late, network.alone):
        norm.running_mean.normal_(generator=draws(2))
        norm.running_var.uniform_(0.5, 2, generator=draws(3))
    tower = VisualTower(network, timm.visual.preprocess, kind="timm", dim=5)
    encode = Encoder(tower)
    assert norms(encode._tower) == 2
    with torch.no_grad():
        expected = tower(pixels_for(tower))
    torch.testing.assert_close(encode(pixels_for(tower)), expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("fp32")
def test_a_network_that_cannot_be_followed_runs_as_it_is(timm: Backbone) -> None:
    class Choosing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x)).mean(dim=(2, 3)) * (1 if x.sum() > 0 else 2)

    tower = VisualTower(Choosing().eval(), timm.visual.preprocess, kind="timm", dim=4)
    with torch.no_grad():
        expected = tower(pixels_for(tower))
    assert torch.equal(Encoder(tower)(pixels_for(tower)), expected)


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_bf16_weights_give_the_same_features_within_their_noise(
    kind: str, name: AdapterName, fresh: Fresh
) -> None:
    tower = adapted(fresh, kind, name)
    before = snapshot(tower.state_dict())
    features = Encoder(tower)(pixels_for(tower))
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3), atol=1e-5, rtol=0)
    with torch.no_grad():
        expected = tower(pixels_for(tower))
    assert (features * expected).sum(dim=1).min() > 0.99
    if kind == "timm":  # its convolutions stay in fp32
        torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)
    assert same(tower.state_dict(), before)


@pytest.mark.usefixtures("fp32")
def test_what_a_tower_learns_later_is_not_seen(timm: Backbone) -> None:
    pixels = pixels_for(timm.visual)
    encode = Encoder(timm.visual)
    before = encode(pixels)
    with torch.no_grad():
        for parameter in timm.visual.parameters():
            parameter.mul_(2)
    assert torch.equal(encode(pixels), before)


# --- batches --------------------------------------------------------------------------------------


def test_the_batch_halves_for_good_when_memory_runs_out() -> None:
    sizes: list[int] = []

    def forward(pixels: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(pixels))
        if len(pixels) > 3:
            raise torch.cuda.OutOfMemoryError
        flat = pixels.float().flatten(1)
        return flat, torch.stack([flat, -flat])

    batch, pixels = BatchSize(8), random_pixels(8, 2)
    for _ in range(2):
        one, two = batch.run(forward, pixels)
        assert torch.equal(one, pixels.float().flatten(1))
        assert torch.equal(two[1], -one)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert batch.images == 2


def test_one_image_that_does_not_fit_is_an_error() -> None:
    def forward(_: Tensor) -> tuple[Tensor]:
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(torch.cuda.OutOfMemoryError):
        BatchSize(2).run(forward, random_pixels(2, 2))


def test_a_batch_is_what_was_asked_for_or_by_device(vit: Backbone) -> None:
    encode = Encoder(vit.visual)
    assert BatchSize.fitting(encode).images == BATCH_ON_CPU
    assert BatchSize.fitting(encode, asked=7).images == 7
    found = [largest_batch(free, 10) for free in (0, 10, 39, 40, 10**9)]
    assert found == [1, 1, 2, 4, LARGEST_BATCH]
