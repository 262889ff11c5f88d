"""What tower methods share: one step is the equation by hand, and scores are the network's."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD

from clipcore import adapters
from clipcore.augment import random_view, view_size
from clipcore.backbone import Backbone
from clipcore.backbone_names import UnsupportedBackbone
from clipcore.baselines.evidence import Evidence, NoPixels, Scores, Taught, no_pixels
from clipcore.baselines.method_names import TOWER_NAMES, VIT_NAMES
from clipcore.baselines.methods import LABELLED_METHODS, METHODS
from clipcore.baselines.tower import (
    head_network,
    learn,
    learn_labels,
    logits_of,
    scores_of_network,
    taught_images,
)
from clipcore.fit import Schedule, TrainingSet, cycled
from clipcore.image_sides import TowerWithAdapter
from clipcore.losses import scaled_similarity
from clipcore.network import Network
from tests.worlds.evidence import (
    evidence,
    few_answers,
    in_memory,
    seen_evidence,
    share_right,
    true_labels,
)
from tests.worlds.tensors import draws, random_features, random_pixels, same, snapshot

Fresh = Callable[[str], Backbone]


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean of $-log softmax(z)_y$, with loops."""
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        most = max(row)
        total -= row[label] - most - math.log(sum(math.exp(value - most) for value in row))
    return total / len(labels)


def test_a_step_learns_from_the_equation_on_random_views(fresh: Fresh) -> None:
    """AdamW's first step goes against the sign of each gradient, here by finite differences."""
    clip = fresh("timm")
    adapter = adapters.attach(clip.visual, "bottleneck", generator=draws())
    images = TowerWithAdapter(clip.visual, adapter, flip=True)
    pixels, labels = random_pixels(6, clip.visual.preprocess.size), torch.arange(6) % 3
    texts = torch.nn.Parameter(random_features(3, clip.embed_dim, 3))
    schedule = Schedule(epochs=1, batch_size=4, seed=7, stream="test")
    draw = schedule.draws(0)
    (batch,) = cycled(6, batch_size=4, steps=1)(draw)
    view = random_view(
        clip.visual.to_input(pixels[batch]),
        generator=draw,
        size=view_size(clip.visual),
        flip=True,
    )
    with torch.no_grad():
        features, start = clip.visual.encode_input(view), texts.detach().clone()

    def loss(moved: Tensor) -> float:
        return cross_entropy(scaled_similarity(features, moved, 10.0), labels[batch])

    learn_labels(
        images,
        lambda: texts,
        10.0,
        [texts],
        TrainingSet(labels, in_memory(pixels)),
        seed=7,
        stream="test",
        steps=1,
        batch_size=4,
        learning_rate=1e-3,
        weight_decay=0.0,
    )
    step = (texts.detach() - start).flatten()
    for place in range(0, step.numel(), 11):
        there = torch.zeros(step.numel())
        there[place] = 1e-3
        rise = loss(start + there.view_as(start)) - loss(start - there.view_as(start))
        if abs(rise) > 1e-5:
            assert float(step[place]) == pytest.approx(-math.copysign(1e-3, rise), rel=0.05)


def test_nothing_to_learn_from_changes_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(2))

    def never(*_: object) -> dict[str, Tensor]:
        raise AssertionError("no batch was expected")

    data = TrainingSet(torch.zeros(0, dtype=torch.long), in_memory(torch.zeros(0)))
    learn(SGD([weight], 1.0), never, data, seed=0, stream="none", steps=3, batch_size=2)
    assert torch.equal(weight.detach(), torch.ones(2))


def test_what_is_taught_is_loaded_by_its_place_in_the_pool() -> None:
    pixels = random_pixels(9, 4)
    taught = Taught(torch.tensor([7, 2, 5]), torch.tensor([0, 1, 0]))
    data = taught_images(taught, in_memory(pixels))
    (found,) = data.load_pixels([torch.tensor([2, 0])])
    assert torch.equal(found, pixels[[5, 7]])
    assert torch.equal(data.labels, taught.labels)


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_before_training_the_scores_are_zero_shots(kind: str, fresh: Fresh) -> None:
    clip = fresh(kind)
    given = seen_evidence(clip, per_class=20)
    network, pixels = head_network(given, given.zero_shot), given.load_pixels()
    scores = scores_of_network(network, given, pixels, num_parameters=0)
    near = {"atol": 2e-2, "rtol": 2e-2}  # bf16
    torch.testing.assert_close(scores.pool, given.zero_shot.probabilities(given.pool), **near)
    torch.testing.assert_close(scores.test, given.zero_shot.probabilities(given.test), **near)
    assert logits_of(network, pixels.pool, 0).shape == (0, 2)


# --- every method that tunes the tower ------------------------------------------------------------


def run(name: str, given: Evidence, *, steps: int = 3, **options: Any) -> Scores:
    if name in METHODS:
        found: Scores = partial(METHODS[name], steps=steps, **options)(given, 0)
        return found
    answers = few_answers(given, true_labels(2, len(given.pool) // 2), shots=8)
    return partial(LABELLED_METHODS[name], steps=steps, **options)(given, answers, 0)


def served(scores: Scores, clip: Backbone) -> Network:
    """Return the network that comes of what would be written to disk."""
    assert scores.tuned is not None
    for arguments in scores.tuned.attached:
        adapters.attach(clip.visual, generator=draws(9), **arguments)
    network = Network(clip.visual, num_classes=2, dim=clip.embed_dim)
    network.load_state_dict(dict(scores.tuned.state))
    return network


@pytest.mark.parametrize("name", TOWER_NAMES)
def test_the_backbone_stays_and_what_is_served_says_the_same(name: str, fresh: Fresh) -> None:
    clip = fresh("vit")
    given = seen_evidence(clip, per_class=20)
    before = snapshot(clip.state_dict())
    scores = run(name, given)
    assert same(clip.state_dict(), before)
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    network, pixels = served(scores, fresh("vit")), given.load_pixels()
    assert scores.tuned is not None
    assert torch.equal(logits_of(network, pixels.pool, len(given.pool)), scores.tuned.logits)
    assert torch.equal(scores.tuned.logits.softmax(dim=1), scores.pool)
    assert scores.head is None, "no head on unchanged features says this"
    json.dumps(scores.tuned.attached)


LEARNS = {  # of the tower: parts of the names of its weights
    "clip-lora": ("in_proj_weight",),
    "vpt": (),
    "maple": (),
    "lafter": ("ln_",),
    "must": ("",),
    "deft": ("",),
}


@pytest.mark.parametrize("name", TOWER_NAMES)
def test_of_the_tower_only_what_the_method_tunes_has_changed(name: str, fresh: Fresh) -> None:
    clip = fresh("vit")
    scores = run(name, seen_evidence(clip, per_class=20))
    assert scores.tuned is not None
    own = clip.visual.network.state_dict()
    moved = {
        part
        for part, value in own.items()
        if not torch.equal(scores.tuned.state[f"visual.network.{part}"], value)
    }
    assert all(any(word in part for word in LEARNS[name]) for part in moved)
    assert bool(moved) == bool(LEARNS[name])
    assert scores.num_parameters > 0


@pytest.mark.parametrize("name", TOWER_NAMES)
def test_features_alone_are_refused(name: str, loaded_vit: Backbone) -> None:
    given = replace(evidence(load_backbone=lambda: loaded_vit), load_pixels=no_pixels)
    with pytest.raises(NoPixels, match="Expected the images themselves"):
        run(name, given)


@pytest.mark.parametrize("name", VIT_NAMES)
def test_a_tower_without_tokens_is_refused_before_an_image_is_read(
    name: str, loaded_timm: Backbone
) -> None:
    given = replace(evidence(load_backbone=lambda: loaded_timm), load_pixels=no_pixels)
    with pytest.raises(UnsupportedBackbone, match="lafter, must, deft tune any tower"):
        run(name, given)


@pytest.mark.parametrize("name", sorted({*TOWER_NAMES} - {*VIT_NAMES}))
def test_the_others_tune_a_convolutional_tower(name: str, fresh: Fresh) -> None:
    clip = fresh("timm")
    scores = run(name, seen_evidence(clip, per_class=10))
    network = served(scores, fresh("timm"))
    statistics = dict(clip.visual.network.named_buffers())
    assert same(statistics, dict(network.visual.network.named_buffers()))
    assert bool(torch.isfinite(scores.pool).all())


@pytest.mark.parametrize("name", sorted({*TOWER_NAMES} & {*LABELLED_METHODS}))
def test_a_few_answers_mend_texts_that_lean_too_far(name: str, loaded_vit: Backbone) -> None:
    given, labels = seen_evidence(loaded_vit, lean=0.6), true_labels(2, 40)
    assert share_right(given.zero_shot.probabilities(given.test), labels) < 0.1
    options = {"clip-lora": (20, 1e-2), "vpt": (40, 1e-2), "maple": (60, 1e-3)}
    steps, rate = options[name]
    scores = run(name, given, steps=steps, learning_rate=rate)
    assert share_right(scores.test, labels) > 0.75


@pytest.mark.parametrize("name", sorted({*TOWER_NAMES} & {*LABELLED_METHODS}))
def test_without_an_answer_nothing_learns(name: str, loaded_vit: Backbone) -> None:
    given = seen_evidence(loaded_vit, per_class=5)
    nobody = torch.full((len(given.pool),), -1)
    scores = LABELLED_METHODS[name](given, nobody, 0)
    assert scores.tuned is not None
    state = loaded_vit.visual.network.state_dict()
    assert all(
        torch.equal(scores.tuned.state[f"visual.network.{part}"], value)
        for part, value in state.items()
    )
