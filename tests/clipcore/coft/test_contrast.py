"""Momentum contrast: Eq. 8 to 10 of CoFT written again with loops, the queue, and resuming."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, AdamW

from clipcore import checkpoint
from clipcore.augment import random_view, strong_view
from clipcore.backbone import Backbone
from clipcore.coft.contrast import KeyQueue, MomentumContrast, info_nce, resolve_queue_size
from clipcore.coft.phase2 import NO_LABEL, parameter_groups, train_network
from clipcore.fit import Schedule, TrainingSet, mixed_batches
from clipcore.network import Network, new_network
from tests.worlds.tensors import (
    draws,
    random_features,
    random_pixels,
    same,
    snapshot,
    training_set,
)

Fresh = Callable[[str], Backbone]
NUM_CLEAN, NUM_IMAGES = 6, 10


def test_info_nce_is_the_equation_written_with_loops() -> None:
    queries, keys, queue = (random_features(count, 4, seed) for seed, count in enumerate((3, 3, 5)))
    total = 0.0
    for query, key in zip(queries.tolist(), keys.tolist(), strict=True):
        own = math.exp(sum(a * b for a, b in zip(query, key, strict=True)) / 0.07)
        others = sum(
            math.exp(sum(a * b for a, b in zip(query, other, strict=True)) / 0.07)
            for other in queue.tolist()
        )
        total -= math.log(own / (own + others))
    found = info_nce(queries, keys, queue, temperature=0.07)
    assert found.item() == pytest.approx(total / 3, rel=1e-5)


def test_gradients_of_info_nce_are_those_of_small_differences() -> None:
    def loss(queries: torch.Tensor) -> torch.Tensor:
        keys, queue = random_features(3, 4, 1).double(), random_features(5, 4, 2).double()
        return info_nce(queries, keys, queue, temperature=0.5)

    queries = random_features(3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(loss, (queries,))


def test_with_nothing_in_the_queue_there_is_nothing_to_learn() -> None:
    queries = random_features(3, 4).requires_grad_()
    loss = info_nce(queries, random_features(3, 4, 1), torch.zeros(0, 4), temperature=0.07)
    loss.backward()
    assert loss.item() == 0
    assert not queries.grad.any()  # type: ignore[union-attr]


@given(st.integers(0, 7), st.lists(st.integers(0, 5), max_size=8))
def test_a_queue_holds_the_last_keys(size: int, batches: list[int]) -> None:
    queue = KeyQueue(size, 2, device=torch.device("cpu"))
    pushed: list[list[float]] = []
    for number, count in enumerate(batches):
        keys = random_features(count, 2, number)
        queue.push(keys)
        pushed += keys.tolist()
        expected = pushed[-size:] if size else []
        assert sorted(queue.keys.tolist()) == sorted(expected)


def test_a_restored_queue_forgets_in_the_same_order() -> None:
    one, two = (KeyQueue(5, 2, device=torch.device("cpu")) for _ in range(2))
    one.push(random_features(7, 2))
    two.restore(snapshot(one.tensors()))
    for queue in (one, two):
        queue.push(random_features(2, 2, 1))
    assert torch.equal(one.keys, two.keys)


def test_a_queue_never_holds_an_image_that_comes_again() -> None:
    assert resolve_queue_size(8192, num_images=100_000) == 8192
    assert resolve_queue_size(8192, num_images=10) == 5
    assert resolve_queue_size(8192, num_images=1) == 0


# --- in Phase II ----------------------------------------------------------------------------------


def start(clip: Backbone) -> Network:
    return new_network(clip.visual, random_features(2, clip.embed_dim, 3), 10.0)


def both_kinds(clip: Backbone) -> TrainingSet:
    """Return six images with labels, and then all ten without."""
    pixels = random_pixels(NUM_IMAGES, clip.visual.preprocess.size)
    labels = torch.cat([torch.arange(NUM_CLEAN) % 2, torch.full((NUM_IMAGES,), NO_LABEL)])
    return training_set(torch.cat([pixels[:NUM_CLEAN], pixels]), labels)


def contrast(network: Network, **changed: Any) -> MomentumContrast:
    options = {"weight": 0.5, "momentum": 0.9, "temperature": 0.2, "queue_size": 4, **changed}
    return MomentumContrast(network, **options)


def train(
    network: Network, clip: Backbone, unlabeled: MomentumContrast, **options: Any
) -> list[dict[str, float]]:
    arguments = {"epochs": range(2), **options}
    schedule = Schedule(epochs=2, batch_size=4, seed=0, stream="phase2")
    groups = parameter_groups(network, learning_rate=1e-3, head_learning_rate=1e-2)
    optimizer = arguments.pop("optimizer", None) or AdamW(groups)
    data = both_kinds(clip)
    return list(
        train_network(network, optimizer, data, schedule, unlabeled=[unlabeled], **arguments)
    )


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_the_loss_is_cross_entropy_and_gamma_times_contrast(kind: str, fresh: Fresh) -> None:
    clip = fresh(kind)
    network = start(clip)
    for row in train(network, clip, contrast(network)):
        assert row["contrast"] > 0
        assert row["loss"] == pytest.approx(row["cross_entropy"] + 0.5 * row["contrast"], rel=1e-5)


def test_one_epoch_is_the_equations_by_hand(fresh: Fresh) -> None:
    """With a rate of zero the tower stands still, so keys and queries can be made again."""
    clip = fresh("vit")
    network, data = start(clip), both_kinds(clip)
    schedule = Schedule(epochs=1, batch_size=4, seed=0, stream="phase2")
    groups = parameter_groups(network, learning_rate=0.0, head_learning_rate=0.0)
    (row,) = train_network(
        network, SGD(groups), data, schedule, epochs=range(1), unlabeled=[contrast(network)]
    )
    draw = schedule.draws(0)
    batches = mixed_batches(NUM_CLEAN, NUM_IMAGES, labeled_batch=4, other_batch=4)(draw)
    size = clip.visual.preprocess.size
    queue: list[torch.Tensor] = []
    total = 0.0
    for batch, pixels in zip(batches, data.load_pixels(batches), strict=True):
        count = int((batch < NUM_CLEAN).sum())
        x = clip.visual.to_input(pixels)
        random_view(x[:count], generator=draw, size=size)
        views = [
            strong_view(x[count:], clip.visual.preprocess, generator=draw, size=size)
            for _ in range(2)
        ]
        with torch.no_grad():
            queries, keys = (clip.visual.encode_input(view) for view in views)
        waiting = torch.stack(queue[-4:]) if queue else torch.zeros(0, clip.embed_dim)
        total += info_nce(queries, keys, waiting, temperature=0.2).item() * len(batch)
        queue += list(keys)
    seen = sum(len(batch) for batch in batches)
    assert row["contrast"] == pytest.approx(total / seen, rel=0.02)  # bf16 where it is fast
    assert total > 0


def test_the_weight_of_contrast_changes_what_is_learned(fresh: Fresh) -> None:
    ends = []
    for weight in (0.0, 0.5):
        clip = fresh("vit")
        network = start(clip)
        train(network, clip, contrast(network, weight=weight))
        ends.append(snapshot(network.state_dict()))
    assert not same(*ends)


def test_rejected_images_teach_the_tower_too(fresh: Fresh) -> None:
    """The tower ends elsewhere when only images without a label change."""
    ends = []
    for change in (0, 100):
        clip = fresh("vit")
        network, data = start(clip), both_kinds(clip)
        pixels = next(iter(data.load_pixels([torch.arange(len(data.labels))]))).clone()
        pixels[NUM_CLEAN + NUM_CLEAN :] += change
        schedule = Schedule(epochs=1, batch_size=16, seed=0, stream="phase2")
        groups = parameter_groups(network, learning_rate=1e-3, head_learning_rate=1e-2)
        changed, unlabeled = training_set(pixels, data.labels), contrast(network)
        unlabeled._queue.push(random_features(4, clip.embed_dim))
        list(
            train_network(
                network, AdamW(groups), changed, schedule, epochs=range(1), unlabeled=[unlabeled]
            )
        )
        ends.append(snapshot(network.state_dict()))
    assert not same(*ends)


def test_the_encoder_of_keys_follows_slowly_and_gets_no_gradient(fresh: Fresh) -> None:
    clip = fresh("vit")
    network = start(clip)
    before = snapshot(network.visual.state_dict())
    unlabeled = contrast(network, momentum=0.999)
    train(network, clip, unlabeled)
    average = checkpoint.under("encoder", unlabeled.tensors())
    moved = [name for name in before if not torch.equal(before[name], average[name])]
    assert moved
    for name in moved:
        way = (average[name] - before[name]).abs().max()
        assert 0 < way < 0.01 * (network.visual.state_dict()[name] - before[name]).abs().max()
    assert not any(tensor.requires_grad for tensor in average.values())


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_a_network_that_was_stopped_ends_where_it_would_have(kind: str, fresh: Fresh) -> None:
    clip = fresh(kind)
    whole = start(clip)
    train(whole, clip, contrast(whole))
    kept: dict[str, torch.Tensor] = {}
    for epoch in range(2):
        clip = fresh(kind)
        network = start(clip)
        unlabeled = contrast(network)
        optimizer = AdamW(parameter_groups(network, learning_rate=1e-3, head_learning_rate=1e-2))
        if epoch:
            network.load_state_dict(checkpoint.under("network", kept))
            unlabeled.restore(checkpoint.under("contrast", kept))
            checkpoint.restore_optimizer(optimizer, checkpoint.under("optimizer", kept))
        train(network, clip, unlabeled, optimizer=optimizer, epochs=range(epoch, epoch + 1))
        kept = snapshot(
            {
                **checkpoint.prefixed("network", network.state_dict()),
                **checkpoint.prefixed("contrast", unlabeled.tensors()),
                **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
            }
        )
    assert same(network.state_dict(), whole.state_dict())


def test_views_keep_their_colours_where_these_tell_classes_apart(fresh: Fresh) -> None:
    clip = fresh("vit")
    network = start(clip)
    grey = torch.full((3, 32, 32, 3), 128, dtype=torch.uint8)
    red = grey.clone()
    red[..., 0] = 255
    kept, changed = (
        contrast(network, colours=colours).view(red, draws()) for colours in (False, True)
    )
    assert torch.allclose(kept, clip.visual.to_input(red)[:, :, :1, :1], atol=1e-4)
    assert not torch.allclose(changed, kept, atol=0.1)
