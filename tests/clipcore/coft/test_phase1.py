"""Phase I: what learns, what does not, and that a peer is what its seed and training made it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim import SGD

from clipcore import checkpoint, dual
from clipcore.adapters import Adapter
from clipcore.backbone import Backbone, VisualTower
from clipcore.backbone_names import AdapterName
from clipcore.coft import phase1
from clipcore.dual import DualLearner
from clipcore.fit import Schedule, TrainingSet
from clipcore.image_sides import TowerWithAdapter
from clipcore.losses import (
    GradientMode,
    dual_logits,
    dual_prompt_loss,
    positive_loss,
    scaled_similarity,
)
from clipcore.seeding import generator
from tests.worlds.tensors import random_pixels, same, snapshot, training_set

CLASSES = ["cat", "dog", "sea lion"]
PAIRS = [("vit", "vpt"), ("vit", "lora"), ("vit", "bottleneck"), ("timm", "bottleneck")]
every_pair = pytest.mark.parametrize(("kind", "name"), PAIRS)
Fresh = Callable[[str], Backbone]


def new_peer(clip: Backbone, adapter: AdapterName = "auto", *, seed: int = 0) -> DualLearner:
    return phase1.new_peer(
        clip,
        CLASSES,
        generator=generator(seed, "peer"),
        prompts={"num_context_tokens": 3},
        adapter={"name": adapter, "num_visual_prompts": 2, "lora_rank": 2},
    )


def tower_of(peer: DualLearner) -> VisualTower:
    assert isinstance(peer.images, TowerWithAdapter)
    return peer.images.tower


def adapter_of(peer: DualLearner) -> Adapter:
    assert isinstance(peer.images, TowerWithAdapter)
    return peer.images.adapter


def confident_set(tower: VisualTower) -> TrainingSet:
    pixels = random_pixels(9, tower.preprocess.size)
    labels = torch.arange(9) % len(CLASSES)
    pixels[labels == 0] //= 4  # something to learn: one class is dark, one is bright
    pixels[labels == 1] |= 192
    return training_set(pixels, labels)


def train(
    peer: DualLearner,
    *,
    epochs: range = range(2),
    rate: float = 0.05,
    weight: float = 1.0,
    mode: GradientMode = "paper",
    optimizer: SGD | None = None,
) -> list[dict[str, float]]:
    schedule = Schedule(epochs=max(2, epochs.stop), batch_size=4, seed=0, stream="phase1")
    optimizer = optimizer or SGD(peer.learned(), lr=rate, momentum=0.9)
    return list(
        dual.train(
            peer,
            optimizer,
            confident_set(tower_of(peer)),
            schedule,
            dual_weight=weight,
            gradient_mode=mode,
            epochs=epochs,
        )
    )


def everything(peer: DualLearner) -> dict[str, Tensor]:
    """Return what a peer says of images and classes, and what it learned."""
    pixels = random_pixels(3, tower_of(peer).preprocess.size, seed=7)
    with torch.no_grad():
        features = peer.images.encode(pixels)
    head = peer.head()
    return {
        "images": features,
        "positive": head.positive.embeddings,
        "negative": head.negative,
        **peer.tensors(),
    }


# --- what learns ----------------------------------------------------------------------------------


@every_pair
def test_the_backbone_is_bit_for_bit_the_same_after_phase_one(
    kind: str, name: AdapterName, fresh: Fresh
) -> None:
    """Also the running statistics of batch norms. The bottleneck borrows the norms' affine."""
    clip = fresh(kind)
    original = snapshot(clip.state_dict())
    peer = new_peer(clip, name)
    before = snapshot(peer.tensors())
    train(peer)
    after = peer.tensors()
    assert all(not torch.equal(after[key], before[key]) for key in before)
    borrowed = {key.partition("adapter.norm:")[2] for key in after}
    now = clip.state_dict()
    for key, value in original.items():
        if key.removeprefix("visual.network.") not in borrowed:
            moved = key if key in now else key.replace("in_proj_weight", PARAMETRIZED)
            assert torch.equal(now[moved], value), key
    adapter_of(peer).detach()
    assert same(clip.state_dict(), original)


PARAMETRIZED = "parametrizations.in_proj_weight.original"


@every_pair
def test_nothing_but_the_learned_asks_for_gradients(
    kind: str, name: AdapterName, fresh: Fresh
) -> None:
    clip = fresh(kind)
    pretrained = list(clip.modules())
    peer = new_peer(clip, name)
    learned = [id(parameter) for parameter in peer.learned()]
    assert len(set(learned)) == len(learned)
    parameters = [*clip.parameters(), *peer.prompts.parameters()]
    assert set(learned) == {id(p) for p in parameters if p.requires_grad}
    train(peer)
    assert all(p.grad is None for p in parameters if id(p) not in learned)
    assert not any(module.training for module in pretrained)


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_training_lowers_the_loss_on_the_images_as_they_are(kind: str, fresh: Fresh) -> None:
    peer = new_peer(fresh(kind))
    data = confident_set(tower_of(peer))
    pixels = next(iter(data.load_pixels([torch.arange(9)])))

    def l1() -> float:
        with torch.no_grad():
            logits = scaled_similarity(
                peer.images.encode(pixels), peer.head().positive.embeddings, peer.logit_scale
            )
        return positive_loss(logits, data.labels).item()

    before = l1()
    rows = train(peer, epochs=range(10))
    assert set(rows[0]) == {"loss", "l1", "l2", "seconds"}
    assert l1() < 0.9 * before


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_loss_is_the_weighted_sum(vit: Backbone, weight: float) -> None:
    for row in train(new_peer(vit), weight=weight):
        assert row["loss"] == pytest.approx(row["l1"] + weight * row["l2"], rel=1e-5)
        assert row["l2"] > 0


# --- who learns from L2 ---------------------------------------------------------------------------


def parts(peer: DualLearner) -> dict[str, Tensor]:
    tensors = peer.tensors()
    return {
        "positive": tensors["prompts.positive_context"],
        "negative": tensors["prompts.negative_context"],
        "visual": tensors["adapter.tokens"],
    }


LEARNERS: dict[GradientMode, set[str]] = {
    "paper": {"negative", "visual"},
    "full": {"positive", "negative", "visual"},
    "deft": {"negative"},
}


@pytest.mark.parametrize("mode", LEARNERS)
def test_gradients_of_l2_reach_only_what_the_mode_names(mode: GradientMode, vit: Backbone) -> None:
    peer = new_peer(vit)
    features = peer.images.encode(random_pixels(4, 32))
    positive, negative = peer.prompts()
    logits = dual_logits(features, positive, negative, vit.logit_scale, mode=mode)
    labels = torch.tensor([0, 1, 2, 0])
    dual_prompt_loss(*logits, labels, (labels + 1) % 3).backward()
    contexts = peer.prompts
    found = {
        "positive": contexts.positive_context.grad,
        "negative": contexts.negative_context.grad,
        "visual": next(adapter_of(peer).parameters()).grad,
    }
    learners = {name for name, grad in found.items() if grad is not None and grad.any()}
    assert learners == LEARNERS[mode]


@pytest.mark.parametrize("mode", LEARNERS)
def test_training_with_l2_moves_only_what_the_mode_names(mode: GradientMode, fresh: Fresh) -> None:
    """One step with L2 against one without: the same draws, so any difference is L2's doing."""

    def one_step(weight: float) -> dict[str, Tensor]:
        peer = new_peer(fresh("vit"))
        data = confident_set(tower_of(peer))
        schedule = Schedule(epochs=1, batch_size=9, seed=0, stream="phase1")
        optimizer = SGD(peer.learned(), lr=0.1)
        arguments = {"dual_weight": weight, "gradient_mode": mode}
        list(dual.train(peer, optimizer, data, schedule, **arguments, epochs=range(1)))
        return snapshot(parts(peer))

    start = parts(new_peer(fresh("vit")))
    without, with_l2 = one_step(0.0), one_step(1.0)
    assert torch.equal(without["negative"], start["negative"])  # L1 does not know it
    assert not torch.equal(without["positive"], start["positive"])
    moved = {name for name in start if not torch.equal(without[name], with_l2[name])}
    assert moved == LEARNERS[mode]


# --- a peer is its seed and its training ----------------------------------------------------------


@every_pair
def test_a_new_peer_is_the_backbone_and_its_seed(
    kind: str, name: AdapterName, fresh: Fresh
) -> None:
    """Every round starts from CLIP again, bit for bit."""
    clip = fresh(kind)
    digest = clip.weights_sha256()
    one = everything(new_peer(clip, name, seed=1))
    another = fresh(kind)
    again = new_peer(another, name, seed=1)
    other = everything(new_peer(fresh(kind), name, seed=2))
    assert same(one, everything(again))
    assert not torch.equal(one["positive"], other["positive"])
    train(again)
    adapter_of(again).detach()
    assert another.weights_sha256() == digest
    assert same(one, everything(new_peer(another, name, seed=1)))


@every_pair
def test_a_restored_peer_sees_what_the_trained_one_sees(
    kind: str, name: AdapterName, fresh: Fresh, tmp_path: Path
) -> None:
    peer, restored = new_peer(fresh(kind), name), new_peer(fresh(kind), name, seed=5)
    train(peer)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(checkpoint.to_bytes(peer.tensors(), {}))
    restored.restore(checkpoint.read(str(path))[0])
    assert same(everything(peer), everything(restored))


@pytest.mark.parametrize(("kind", "name"), [("vit", "vpt"), ("timm", "bottleneck")])
def test_a_peer_that_was_stopped_ends_where_it_would_have(
    kind: str, name: AdapterName, fresh: Fresh, tmp_path: Path
) -> None:
    whole = new_peer(fresh(kind), name)
    history = train(whole)
    first, second = new_peer(fresh(kind), name), new_peer(fresh(kind), name, seed=5)
    optimizer = SGD(first.learned(), lr=0.05, momentum=0.9)
    rows = train(first, epochs=range(1), optimizer=optimizer)
    state = {
        **checkpoint.prefixed("weights", first.tensors()),
        **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
    }
    path = tmp_path / "resume.safetensors"
    path.write_bytes(checkpoint.to_bytes(state, {}))
    tensors, _ = checkpoint.read(str(path))
    second.restore(checkpoint.under("weights", tensors))
    optimizer = SGD(second.learned(), lr=0.05, momentum=0.9)
    checkpoint.restore_optimizer(optimizer, checkpoint.under("optimizer", tensors))
    rows += train(second, epochs=range(1, 2), optimizer=optimizer)
    assert same(everything(whole), everything(second))
    assert [row["loss"] for row in rows] == [row["loss"] for row in history]


def test_class_embeddings_carry_no_gradient(vit: Backbone) -> None:
    peer = new_peer(vit)
    head = peer.head()
    positive, negative = head.positive.embeddings, head.negative
    assert not positive.requires_grad
    assert not negative.requires_grad
    live = peer.prompts()
    torch.testing.assert_close(positive, live[0].detach())
    torch.testing.assert_close(negative, live[1].detach())


def test_new_prompts_hold_every_label_to_be_half_clean(vit: Backbone) -> None:
    """Both contexts start near zero, so that neither sign is preferred before training."""
    peer = new_peer(vit)
    head = peer.head()
    positive, negative = head.positive.embeddings, head.negative
    features = peer.images.encode(random_pixels(4, 32)).detach()
    gap = scaled_similarity(features, positive - negative, vit.logit_scale)
    assert gap.sigmoid().sub(0.5).abs().max() < 0.2
