"""DeFT: its loss with loops, which labels are kept, and what comes of them."""

import math

import pytest
import torch

from clipcore.backbone import Backbone
from clipcore.baselines.deft import deft, filter_loss
from clipcore.losses import draw_complementary_labels
from tests.worlds.evidence import seen_evidence, share_right, true_labels
from tests.worlds.tensors import draws, random_features

SCALE = 10.0


def log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))


@pytest.mark.parametrize("warm_up", [True, False])
def test_the_loss_is_the_equation_written_with_loops(warm_up: bool) -> None:  # noqa: FBT001
    x, positive, negative = (random_features(n, 8, n) for n in (6, 3, 4))
    negative = negative[:3]
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    found = filter_loss(x, positive, negative, labels, SCALE, draws=draws(1), warm_up=warm_up)
    plus, minus = (SCALE * x @ side.T for side in (positive, negative))
    clean = [warm_up or float(plus[i, y]) > float(minus[i, y]) for i, y in enumerate(labels)]
    believed = [
        int(labels[i]) if clean[i] else max(range(3), key=lambda k: float(row[k]))
        for i, row in enumerate(plus)
    ]
    other = draw_complementary_labels(torch.tensor(believed), num_classes=3, generator=draws(1))
    first, second = 0.0, 0.0
    for i, row in enumerate(plus.tolist()):
        if clean[i]:
            first -= math.log(math.exp(row[labels[i]]) / sum(math.exp(value) for value in row))
        gap = plus[i] - minus[i]
        second -= log_sigmoid(float(gap[believed[i]])) + log_sigmoid(-float(gap[other[i]]))
    assert 0 < sum(clean) < 6 or warm_up
    assert found.item() == pytest.approx(first / max(1, sum(clean)) + second / 6, rel=1e-4)


def test_labels_that_all_look_wrong_teach_the_negative_prompts_alone() -> None:
    positive, negative = torch.eye(3, 8).requires_grad_(), torch.eye(3, 8).roll(1, dims=0)
    negative.requires_grad_()
    x = torch.eye(3, 8).roll(1, dims=0).requires_grad_()  # each is what its label is not
    loss = filter_loss(x, positive, negative, torch.arange(3), SCALE, draws=draws(), warm_up=False)
    loss.backward()
    assert negative.grad is not None
    assert bool(negative.grad.any())
    assert all(one.grad is None or not one.grad.any() for one in (x, positive))


def test_labels_that_are_wrong_at_random_are_outvoted(loaded_vit: Backbone) -> None:
    given, labels = seen_evidence(loaded_vit, wrong=4), true_labels(2, 40)
    scores = deft(
        given,
        0,
        num_context_tokens=4,
        steps=40,
        filter_learning_rate=1.0,
        learning_rate=1e-3,
    )
    assert scores.taught is not None
    zero_shot = given.zero_shot.predict(given.pool)[0]
    assert torch.equal(scores.taught.labels, zero_shot[scores.taught.positions])
    assert share_right(scores.test, labels) > 0.9


def test_where_nothing_is_kept_zero_shot_is_left(loaded_vit: Backbone) -> None:
    given = seen_evidence(loaded_vit, wrong=4)
    scores = deft(given, 0, steps=20, filter_learning_rate=2.0)
    assert scores.taught is not None
    assert not len(scores.taught.positions)
    assert scores.tuned is not None
    own = loaded_vit.visual.network.state_dict()
    assert all(
        torch.equal(scores.tuned.state[f"visual.network.{part}"], value)
        for part, value in own.items()
    )
