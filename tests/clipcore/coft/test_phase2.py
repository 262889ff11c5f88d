"""Phase II: a head that starts as CLIP, norms that keep their statistics, and WiSE-FT."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, AdamW

from clipcore import adapters, checkpoint
from clipcore.augment import random_view
from clipcore.backbone import Backbone
from clipcore.backbone_names import AdapterName
from clipcore.coft.phase2 import NormStatistics, parameter_groups, train_network
from clipcore.fit import Schedule, TrainingSet
from clipcore.losses import scaled_similarity
from clipcore.network import Network, interpolate, new_network
from clipcore.zero_shot import class_embeddings
from tests.worlds.tensors import draws, random_pixels, same, snapshot, training_set

CLASSES = ["cat", "dog", "sea lion"]
PAIRS = [("vit", "vpt"), ("vit", "lora"), ("vit", "bottleneck"), ("timm", "bottleneck")]
Fresh = Callable[[str], Backbone]


def start(clip: Backbone) -> Network:
    embeddings = class_embeddings(clip, CLASSES, ["a photo of a {}."])
    return new_network(clip.visual, embeddings, clip.logit_scale)


def clean_set(clip: Backbone) -> TrainingSet:
    pixels = random_pixels(9, clip.visual.preprocess.size)
    labels = torch.arange(9) % len(CLASSES)
    pixels[labels == 0] //= 4
    pixels[labels == 1] |= 192
    return training_set(pixels, labels)


def train(network: Network, clip: Backbone, **options: Any) -> list[dict[str, float]]:
    arguments = {"epochs": range(2), **options}
    total = max(2, arguments["epochs"].stop)
    schedule = Schedule(epochs=total, batch_size=4, seed=0, stream="phase2")
    groups = parameter_groups(network, learning_rate=1e-3, head_learning_rate=1e-2)
    optimizer = arguments.pop("optimizer", None) or AdamW(groups)
    return list(train_network(network, optimizer, clean_set(clip), schedule, **arguments))


# --- the start ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_a_new_network_predicts_as_clip(kind: str, fresh: Fresh) -> None:
    clip = fresh(kind)
    pixels = random_pixels(5, clip.visual.preprocess.size)
    embeddings = class_embeddings(clip, CLASSES, ["a photo of a {}."])
    with torch.no_grad():
        expected = scaled_similarity(clip.visual(pixels), embeddings, clip.logit_scale)
        found = start(clip)(pixels)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_a_network_on_a_merged_adapter_predicts_as_the_peer(
    kind: str, name: AdapterName, fresh: Fresh
) -> None:
    clip = fresh(kind)
    adapter = adapters.attach(
        clip.visual, name, generator=draws(), num_visual_prompts=2, lora_rank=2
    )
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws(3)))
    pixels = random_pixels(5, clip.visual.preprocess.size)
    embeddings = class_embeddings(clip, CLASSES, ["a photo of a {}."])
    with torch.no_grad():
        expected = scaled_similarity(clip.visual(pixels), embeddings, clip.logit_scale)
        adapter.merge()
        found = start(clip)(pixels)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_embeddings_from_inference_mode_can_start_a_network(vit: Backbone) -> None:
    with torch.inference_mode():
        embeddings = class_embeddings(vit, CLASSES, ["{}"])
    network = new_network(vit.visual, embeddings, 10.0)
    network(random_pixels(2, 32)).sum().backward()
    assert network.head.weight.grad is not None
    assert not network.head.bias.any()


# --- what learns ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [(kind, None) for kind in ("vit", "timm")] + PAIRS)
def test_groups_are_the_whole_tower_and_the_head(
    kind: str, name: AdapterName | None, fresh: Fresh
) -> None:
    clip = fresh(kind)
    if name:
        adapters.attach(clip.visual, name, generator=draws()).merge()
    network = start(clip)
    tower, head = parameter_groups(network, learning_rate=1e-4, head_learning_rate=1e-3)
    assert (tower["lr"], head["lr"]) == (1e-4, 1e-3)
    assert [id(p) for p in head["params"]] == [id(p) for p in network.head.parameters()]  # type: ignore[attr-defined]
    both = [id(p) for p in [*tower["params"], *head["params"]]]  # type: ignore[misc]
    assert sorted(both) == sorted(id(p) for p in network.parameters())
    assert len(set(both)) == len(both)
    assert all(parameter.requires_grad for parameter in network.parameters())
    AdamW([tower, head])


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_all_of_the_tower_and_the_head_learn(kind: str, fresh: Fresh) -> None:
    clip = fresh(kind)
    network = start(clip)
    before = snapshot(dict(network.named_parameters()))
    assert set(train(network, clip)[0]) == {"loss", "seconds"}
    after = dict(network.named_parameters())
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_training_lowers_the_loss_on_the_images_as_they_are(kind: str, fresh: Fresh) -> None:
    clip = fresh(kind)
    network, data = start(clip), clean_set(clip)
    pixels = next(iter(data.load_pixels([torch.arange(9)])))

    def loss() -> float:
        with torch.no_grad():
            return F.cross_entropy(network(pixels), data.labels).item()

    before = loss()
    train(network, clip, epochs=range(10))
    assert loss() < 0.9 * before


def test_the_text_tower_does_not_learn(vit: Backbone) -> None:
    before = snapshot(vit.text.state_dict())
    train(start(vit), vit)
    assert same(vit.text.state_dict(), before)
    assert not any(parameter.requires_grad for parameter in vit.text.parameters())


@pytest.mark.parametrize("statistics", ["frozen", "updated"])
def test_statistics_of_batch_norms(statistics: NormStatistics, timm: Backbone) -> None:
    network = start(timm)
    before = snapshot(dict(network.named_buffers()))
    running = [name for name in before if "running" in name]
    assert len(running) > 10
    train(network, timm, norm_statistics=statistics)
    after = dict(network.named_buffers())
    equal = {torch.equal(before[name], after[name]) for name in running}
    assert equal == {statistics == "frozen"}


def test_loss_is_plain_cross_entropy_of_the_clean_set(vit: Backbone) -> None:
    """With one batch and no step taken before it, on views that the test makes itself."""
    network = start(vit)
    data = clean_set(vit)
    schedule = Schedule(epochs=1, batch_size=9, seed=0, stream="phase2")
    generator = schedule.draws(0)
    order = torch.randperm(9, generator=generator)
    pixels = next(iter(data.load_pixels([order])))
    with torch.no_grad():
        view = random_view(vit.visual.to_input(pixels), generator=generator, size=32)
        logits = network.logits(vit.visual.encode_input(view))
    expected = F.cross_entropy(logits, data.labels[order]).item()
    groups = parameter_groups(network, learning_rate=0.1, head_learning_rate=0.1)
    (row,) = train_network(network, SGD(groups), data, schedule, epochs=range(1))
    assert row["loss"] == pytest.approx(expected, rel=0.02)  # bf16 where the processor has it


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_a_network_that_was_stopped_ends_where_it_would_have(
    kind: str, fresh: Fresh, tmp_path: Path
) -> None:
    clip = fresh(kind)
    whole = start(clip)
    train(whole, clip)
    path = tmp_path / "resume.safetensors"
    for epoch in range(2):
        clip = fresh(kind)
        network = start(clip)
        optimizer = AdamW(parameter_groups(network, learning_rate=1e-3, head_learning_rate=1e-2))
        if epoch:
            tensors, _ = checkpoint.read(str(path))
            network.load_state_dict(checkpoint.under("weights", tensors))
            checkpoint.restore_optimizer(optimizer, checkpoint.under("optimizer", tensors))
        train(network, clip, optimizer=optimizer, epochs=range(epoch, epoch + 1))
        state = {
            **checkpoint.prefixed("weights", network.state_dict()),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
        }
        path.write_bytes(checkpoint.to_bytes(state, {}))
    assert same(network.state_dict(), whole.state_dict())


# --- WiSE-FT --------------------------------------------------------------------------------------


def two_states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    one, two = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(2))
    with torch.no_grad():
        for seed, module in enumerate((one, two)):
            for parameter in module.parameters():
                parameter.normal_(generator=draws(seed))
    two[1].num_batches_tracked += 5
    return snapshot(one.state_dict()), snapshot(two.state_dict())


def test_interpolation_ends_at_its_ends_bit_for_bit() -> None:
    one, two = two_states()
    floats = {name for name, value in one.items() if value.is_floating_point()}
    at_start, at_end = interpolate(one, two, 0.0), interpolate(one, two, 1.0)
    assert same(at_end, two)
    assert same({name: at_start[name] for name in floats}, {name: one[name] for name in floats})
    assert at_start["1.num_batches_tracked"] == 5


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
def test_interpolation_is_its_equation(alpha: float) -> None:
    one, two = two_states()
    for name, value in interpolate(one, two, alpha).items():
        if value.is_floating_point():
            expected = (1 - alpha) * one[name] + alpha * two[name]
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)
            assert value.dtype == two[name].dtype


def test_interpolation_leaves_its_inputs_alone() -> None:
    one, two = two_states()
    before = snapshot(one), snapshot(two)
    interpolate(one, two, 0.5)
    assert same(one, before[0])
    assert same(two, before[1])


def test_interpolation_refuses_states_of_different_networks() -> None:
    one, two = two_states()
    del one["0.weight"]
    with pytest.raises(KeyError, match=r"0\.weight"):
        interpolate(one, two, 0.5)
