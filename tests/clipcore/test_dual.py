"""What a round trains: from which images, what learns, and that a stop changes nothing."""

from collections.abc import Iterator, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore import adapters, precision
from clipcore.backbone import Backbone
from clipcore.dual import DualLearner, loss_terms
from clipcore.dual import train as train_dual
from clipcore.fit import Schedule, TrainingSet, mixed_batches
from clipcore.image_sides import CachedFeatures, TowerWithAdapter
from clipcore.losses import GradientMode, draw_complementary_labels
from clipcore.prompts import DualPrompts
from tests.worlds.tensors import draws, random_features, random_pixels, same, snapshot, training_set

CLASSES = ("cat", "dog", "bird")


def on_features(backbone: Backbone, seed: int = 0) -> DualLearner:
    generator = draws(seed)
    prompts = DualPrompts(backbone, CLASSES, generator=generator, num_context_tokens=2)
    images = CachedFeatures(backbone.embed_dim, generator=generator)
    return DualLearner(prompts, images, logit_scale=10.0)


def on_tower(backbone: Backbone) -> DualLearner:
    generator = draws()
    prompts = DualPrompts(backbone, CLASSES, generator=generator, num_context_tokens=2)
    adapter = adapters.attach(backbone.visual, "auto", generator=generator, num_visual_prompts=2)
    images = TowerWithAdapter(backbone.visual, adapter, flip=True)
    return DualLearner(prompts, images, logit_scale=10.0)


def features(count: int, dim: int) -> TrainingSet:
    """Return three blobs of features with their labels."""
    labels = torch.arange(count) % len(CLASSES)
    centres = random_features(len(CLASSES), dim, 7)
    x = F.normalize(centres[labels] + 0.3 * random_features(count, dim, 8))

    def load(batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return (x[batch] for batch in batches)

    return TrainingSet(labels, load)


def train(learner: DualLearner, data: TrainingSet, epochs: range, total: int = 4) -> list[float]:
    optimizer = torch.optim.SGD(learner.learned(), lr=0.1, momentum=0.9)
    batches = mixed_batches(6, len(data.labels) - 6, labeled_batch=2, other_batch=4)
    schedule = Schedule(epochs=total, batch_size=6, seed=0, stream="learner")
    found = train_dual(learner, optimizer, data, schedule, batches=batches, epochs=epochs)
    return [row["loss"] for row in found]


# --- training -------------------------------------------------------------------------------------


def test_a_new_learner_on_features_leaves_them_alone(vit: Backbone) -> None:
    x = random_features(5, vit.embed_dim)
    torch.testing.assert_close(on_features(vit).images.encode(x), x)


def test_training_lowers_the_loss_and_leaves_the_backbone(vit: Backbone) -> None:
    learner = on_features(vit)
    before = snapshot(vit.state_dict())
    losses = train(learner, features(30, vit.embed_dim), range(4))
    assert losses[-1] < 0.7 * losses[0]
    assert same(before, vit.state_dict())


def test_equal_seeds_give_equal_learners_and_other_seeds_others(vit: Backbone) -> None:
    one, two, other = on_features(vit), on_features(vit), on_features(vit, seed=1)
    assert same(one.tensors(), two.tensors())
    assert not same(one.tensors(), other.tensors())
    data = features(30, vit.embed_dim)
    train(one, data, range(2))
    train(two, data, range(2))
    assert same(one.tensors(), two.tensors())


def test_what_was_learned_can_be_put_back(vit: Backbone) -> None:
    one, two = on_features(vit), on_features(vit, seed=5)
    train(one, features(30, vit.embed_dim), range(2))
    two.restore(snapshot(one.tensors()))
    assert same(one.tensors(), two.tensors())
    x = random_features(4, vit.embed_dim)
    assert torch.equal(one.images.encode(x), two.images.encode(x))
    assert torch.equal(one.head().negative, two.head().negative)


def test_a_tower_with_an_adapter_learns_from_pixels(vit: Backbone) -> None:
    learner = on_tower(vit)
    size = vit.visual.preprocess.size
    frozen = {
        name: value for name, value in snapshot(vit.state_dict()).items() if "adapter" not in name
    }
    before = snapshot(learner.tensors())
    data = training_set(random_pixels(12, size), torch.arange(12) % len(CLASSES))
    train(learner, data, range(1))
    after = vit.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in frozen.items())
    moved = [
        name for name, value in learner.tensors().items() if not torch.equal(value, before[name])
    ]
    assert {"prompts.positive_context", "prompts.negative_context"} < set(moved)
    assert len(moved) > 2


def test_bf16_teaches_the_same_within_its_noise_and_leaves_the_backbone(
    vit: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(vit.state_dict())
    learner = on_tower(vit)
    pixels, labels = random_pixels(6, 32), torch.arange(6) % 3
    found = []
    for fast in (False, True):
        monkeypatch.setattr(precision, "has_fast_bf16", lambda _, fast=fast: fast)
        terms = loss_terms(learner, pixels, labels, draws(), dual_weight=1.0, gradient_mode="full")
        learned = list(learner.learned())
        found.append((terms["loss"].item(), torch.autograd.grad(terms["loss"], learned)))
    (loss, gradients), (quick_loss, quick_gradients) = found
    assert quick_loss == pytest.approx(loss, abs=0.05)
    for one, two in zip(gradients, quick_gradients, strict=True):
        assert two.dtype == torch.float32
        assert F.cosine_similarity(one.flatten(), two.flatten(), dim=0) > 0.97
    state = {name: value for name, value in vit.state_dict().items() if name in before}
    assert same(state, before)


def test_without_dual_weight_only_the_positive_context_learns(vit: Backbone) -> None:
    learner = on_features(vit)
    before = snapshot(learner.tensors())
    optimizer = torch.optim.SGD(learner.learned(), lr=0.1)
    data = features(12, vit.embed_dim)
    schedule = Schedule(epochs=1, batch_size=6, seed=0, stream="learner")
    batches = mixed_batches(12, 0, labeled_batch=4, other_batch=4)
    rows = list(
        train_dual(
            learner, optimizer, data, schedule, batches=batches, epochs=range(1), dual_weight=0.0
        )
    )
    assert rows[0]["loss"] == pytest.approx(rows[0]["l1"])
    after = learner.tensors()
    negative = next(name for name in after if "negative" in name)
    positive = next(name for name in after if "positive" in name)
    assert torch.equal(after[negative], before[negative])
    assert not torch.equal(after[positive], before[positive])


# --- the loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["paper", "full", "deft"])
def test_loss_and_gradients_are_those_of_the_equations_written_with_loops(
    vit: Backbone, mode: GradientMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CoFT Eq. 4 to 6, with what each mode detaches, for every tensor that learns, in fp32."""
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _: False)
    learner = on_features(vit)
    x, labels = random_features(5, vit.embed_dim, 3), torch.tensor([0, 2, 1, 1, 0])
    with torch.no_grad():  # away from the identity, or the correction's first matrix gets nothing
        for parameter in learner.images.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws(9)))
    terms = loss_terms(learner, x, labels, draws(4), dual_weight=0.7, gradient_mode=mode)
    found = torch.autograd.grad(terms["loss"], list(learner.learned()), allow_unused=True)

    others = draw_complementary_labels(labels, num_classes=len(CLASSES), generator=draws(4))
    features = learner.images.encode(x)
    with precision.mixed(torch.device("cpu"), training=True):
        positive, negative = learner.prompts()
    l1 = l2 = torch.zeros(())
    for v, y, other in zip(features, labels.tolist(), others.tolist(), strict=True):
        scores = torch.stack([10 * v @ t for t in positive])
        l1 = l1 - (scores[y] - scores.exp().sum().log())
        seen = v.detach() if mode == "deft" else v
        text = positive if mode == "full" else positive.detach()
        clean = [torch.sigmoid(10 * (seen @ text[k] - seen @ negative[k])) for k in (y, other)]
        l2 = l2 - (clean[0].log() + (1 - clean[1]).log())
    expected = (l1 + 0.7 * l2) / len(x)
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert terms["l1"].item() == pytest.approx(l1.item() / len(x), rel=1e-4)
    gradients = torch.autograd.grad(expected, list(learner.learned()), allow_unused=True)
    for one, two in zip(found, gradients, strict=True):
        assert one is not None
        assert two is not None
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
