"""Consistency with a slow teacher: the equations written again with loops, and resuming."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, AdamW

from clipcore import checkpoint
from clipcore.augment import masked_view, random_view, view_size
from clipcore.backbone import Backbone
from clipcore.coft.consistency import Consistency, align, class_thresholds, consistency_loss
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
PRIOR = torch.tensor([0.7, 0.3])


def posteriors(count: int, num_classes: int = 3) -> Tensor:
    return torch.randn(count, num_classes, generator=draws()).softmax(dim=1)


def test_alignment_is_the_equation_written_with_loops() -> None:
    said, shares, prior = (
        posteriors(4),
        torch.tensor([0.5, 0.3, 0.2]),
        torch.tensor([0.1, 0.6, 0.3]),
    )
    found = align(said, shares, prior)
    for row, aligned in zip(said.tolist(), found.tolist(), strict=True):
        raised = [p * float(prior[c]) / float(shares[c]) for c, p in enumerate(row)]
        assert aligned == pytest.approx([value / sum(raised) for value in raised], rel=1e-5)


def test_shares_that_are_as_the_prior_says_change_nothing() -> None:
    said, shares = posteriors(4), torch.tensor([0.5, 0.3, 0.2])
    torch.testing.assert_close(align(said, shares, shares), said)


def test_a_class_that_is_never_predicted_is_raised_within_bounds() -> None:
    found = align(posteriors(4), torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(found, posteriors(4))


def test_rarer_classes_need_less_confidence() -> None:
    found = class_thresholds(torch.tensor(0.9), torch.tensor([0.6, 0.3, 0.1]))
    assert found.tolist() == pytest.approx([0.9, 0.45, 0.15])


def test_the_loss_is_the_equation_written_with_loops() -> None:
    logits, labels = random_features(4, 3), torch.tensor([0, 2, 1, 1])
    is_sure = torch.tensor([True, False, True, True])
    total = 0.0
    for row, label, sure in zip(logits.tolist(), labels.tolist(), is_sure.tolist(), strict=True):
        if sure:
            total -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
    assert consistency_loss(logits, labels, is_sure).item() == pytest.approx(total / 4, rel=1e-5)


def test_gradients_of_the_loss_are_those_of_small_differences() -> None:
    labels, is_sure = torch.tensor([0, 2, 1]), torch.tensor([True, False, True])
    logits = random_features(3, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: consistency_loss(z, labels, is_sure), (logits,))


# --- in Phase II ----------------------------------------------------------------------------------


def start(clip: Backbone) -> Network:
    return new_network(clip.visual, random_features(2, clip.embed_dim, 3), 10.0)


def both_kinds(clip: Backbone) -> TrainingSet:
    """Return six images with labels, and then all ten without."""
    pixels = random_pixels(NUM_IMAGES, clip.visual.preprocess.size)
    labels = torch.cat([torch.arange(NUM_CLEAN) % 2, torch.full((NUM_IMAGES,), NO_LABEL)])
    return training_set(torch.cat([pixels[:NUM_CLEAN], pixels]), labels)


def consistency(network: Network, **changed: Any) -> Consistency:
    options = {"prior": PRIOR, "weight": 0.5, "momentum": 0.9, "threshold": 0.5, **changed}
    return Consistency(network, **options)


def optimizer_of(network: Network) -> AdamW:
    return AdamW(parameter_groups(network, learning_rate=1e-3, head_learning_rate=1e-2))


def train(network: Network, clip: Backbone, unlabeled: Consistency, **options: Any) -> list[Any]:
    schedule = Schedule(epochs=2, batch_size=4, seed=0, stream="phase2")
    optimizer = options.pop("optimizer", None) or optimizer_of(network)
    epochs = options.pop("epochs", range(2))
    data = both_kinds(clip)
    return list(
        train_network(network, optimizer, data, schedule, unlabeled=[unlabeled], epochs=epochs)
    )


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_the_loss_is_cross_entropy_and_the_weighed_consistency(kind: str, fresh: Fresh) -> None:
    clip = fresh(kind)
    network = start(clip)
    for row in train(network, clip, consistency(network)):
        assert row["consistency"] > 0
        assert row["loss"] == pytest.approx(row["cross_entropy"] + 0.5 * row["consistency"])


@pytest.mark.parametrize("per_class", [False, True])
def test_one_epoch_is_the_equations_by_hand(per_class: bool, fresh: Fresh) -> None:  # noqa: FBT001
    """With a rate of zero teacher and student stand still, so all can be computed again."""
    clip = fresh("vit")
    network, data = start(clip), both_kinds(clip)
    schedule = Schedule(epochs=1, batch_size=4, seed=0, stream="phase2")
    groups = parameter_groups(network, learning_rate=0.0, head_learning_rate=0.0)
    helper = consistency(network, per_class=per_class)
    (row,) = train_network(
        network, SGD(groups), data, schedule, epochs=range(1), unlabeled=[helper]
    )
    draw, size = schedule.draws(0), view_size(clip.visual)
    batches = mixed_batches(NUM_CLEAN, NUM_IMAGES, labeled_batch=4, other_batch=4)(draw)
    shares, mean_confidence, total = PRIOR.tolist(), 0.5, 0.0
    for batch, pixels in zip(batches, data.load_pixels(batches), strict=True):
        count = int((batch < NUM_CLEAN).sum())
        x = clip.visual.to_input(pixels)
        random_view(x[:count], generator=draw, size=size)
        view = masked_view(x[count:], clip.visual.preprocess, generator=draw, size=size)
        with torch.no_grad():
            said = network.logits(clip.visual.encode_input(x[count:])).softmax(dim=1)
            seen = network.logits(clip.visual.encode_input(view)).log_softmax(dim=1)
        shares = [0.9 * s + 0.1 * float(m) for s, m in zip(shares, said.mean(dim=0), strict=True)]
        aligned = [[float(p) * float(PRIOR[c]) / shares[c] for c, p in enumerate(p)] for p in said]
        sure = [max(row) / sum(row) for row in aligned]
        if per_class:
            mean_confidence = 0.9 * mean_confidence + 0.1 * sum(sure) / len(sure)
        loss = 0.0
        for raised, confidence, logs in zip(aligned, sure, seen, strict=True):
            label = raised.index(max(raised))
            needed = shares[label] / max(shares) if per_class else 1.0
            loss -= float(logs[label]) if confidence >= needed * mean_confidence else 0.0
        total += loss / len(aligned) * len(batch)
    assert total > 0
    assert row["consistency"] == pytest.approx(total / sum(map(len, batches)), rel=0.05)  # bf16


def test_a_teacher_that_is_never_sure_teaches_nothing(fresh: Fresh) -> None:
    """The network ends where it would without consistency, from the same batches and views."""
    ends = []
    for options in ({"threshold": 1.1}, {"weight": 0.0}, {}):
        clip = fresh("vit")
        network = start(clip)
        rows = train(network, clip, consistency(network, **options))
        assert (rows[0]["consistency"] == 0) == ("threshold" in options)
        ends.append(snapshot(network.state_dict()))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_the_teacher_follows_slowly_and_gets_no_gradient(fresh: Fresh) -> None:
    clip = fresh("timm")
    network = start(clip)
    before = snapshot(network.state_dict())
    helper = consistency(network, momentum=0.999)
    train(network, clip, helper)
    teacher, student = helper.teacher.state_dict(), network.state_dict()
    moved = [name for name in before if not torch.equal(before[name], student[name])]
    assert moved
    for name in moved:
        way = (teacher[name] - before[name]).abs().max()
        assert way < 0.01 * (student[name] - before[name]).abs().max()
    assert not same(before, teacher)
    assert not any(parameter.requires_grad for parameter in helper.teacher.parameters())


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_a_network_that_was_stopped_ends_where_it_would_have(kind: str, fresh: Fresh) -> None:
    clip = fresh(kind)
    whole = start(clip)
    train(whole, clip, consistency(whole, per_class=True))
    kept: dict[str, Tensor] = {}
    for epoch in range(2):
        clip = fresh(kind)
        network = start(clip)
        helper, optimizer = consistency(network, per_class=True), optimizer_of(network)
        if epoch:
            network.load_state_dict(checkpoint.under("network", kept))
            helper.restore(checkpoint.under("consistency", kept))
            checkpoint.restore_optimizer(optimizer, checkpoint.under("optimizer", kept))
        train(network, clip, helper, optimizer=optimizer, epochs=range(epoch, epoch + 1))
        kept = snapshot(
            {
                **checkpoint.prefixed("network", network.state_dict()),
                **checkpoint.prefixed("consistency", helper.tensors()),
                **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer)),
            }
        )
    assert same(network.state_dict(), whole.state_dict())
