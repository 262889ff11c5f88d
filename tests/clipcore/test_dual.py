"""What a round trains: from which images, what learns, and that a stop changes nothing."""

from collections.abc import Iterator, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from clipcore import adapters
from clipcore.active.training import mixed_batches
from clipcore.backbone import Backbone
from clipcore.dual import DualLearner
from clipcore.dual import train as train_dual
from clipcore.fit import Schedule, TrainingSet
from clipcore.image_sides import CachedFeatures, TowerWithAdapter
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
    batches = mixed_batches(6, len(data.labels) - 6, labeled_batch=2, pseudo_batch=4)
    schedule = Schedule(epochs=total, batch_size=6, seed=0, stream="learner")
    found = train_dual(learner, optimizer, data, schedule, batches=batches, epochs=epochs)
    return [row["loss"] for row in found]


# --- batches --------------------------------------------------------------------------------------


@given(
    st.integers(0, 40), st.integers(0, 40), st.integers(1, 7), st.integers(1, 9), st.integers(0, 3)
)
def test_an_epoch_goes_once_through_the_longer_kind(
    labeled: int, pseudo: int, labeled_batch: int, pseudo_batch: int, seed: int
) -> None:
    make = mixed_batches(labeled, pseudo, labeled_batch=labeled_batch, pseudo_batch=pseudo_batch)
    batches = make(draws(seed))
    steps = max(-(-labeled // labeled_batch), -(-pseudo // pseudo_batch))
    assert len(batches) == steps
    seen = torch.cat([*batches, torch.zeros(0, dtype=torch.long)])
    counts = torch.bincount(seen, minlength=labeled + pseudo)
    longer_is_labeled = labeled and -(-labeled // labeled_batch) == steps
    longer = counts[:labeled] if longer_is_labeled else counts[labeled:]
    assert bool((longer == 1).all())
    for batch in batches:
        answers = int((batch < labeled).sum())
        assert (answers > 0) == (labeled > 0)
        assert (len(batch) - answers > 0) == (pseudo > 0)
        assert answers <= labeled_batch
        assert len(batch) - answers <= pseudo_batch
        assert len(set(batch.tolist())) == len(batch)
    assert all(torch.equal(a, b) for a, b in zip(batches, make(draws(seed)), strict=True))


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


def test_without_dual_weight_only_the_positive_context_learns(vit: Backbone) -> None:
    learner = on_features(vit)
    before = snapshot(learner.tensors())
    optimizer = torch.optim.SGD(learner.learned(), lr=0.1)
    data = features(12, vit.embed_dim)
    schedule = Schedule(epochs=1, batch_size=6, seed=0, stream="learner")
    batches = mixed_batches(12, 0, labeled_batch=4, pseudo_batch=4)
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
