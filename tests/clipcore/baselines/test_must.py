"""MUST: its losses with loops, and self-training that mends what zero-shot does not know."""

import math

import pytest
import torch

from clipcore.backbone import Backbone
from clipcore.baselines.dpa import fairness
from clipcore.baselines.must import must, sure_loss
from tests.worlds.evidence import seen_evidence, share_right, true_labels
from tests.worlds.tensors import draws


def test_the_loss_of_sure_labels_is_the_equation_written_with_loops() -> None:
    logits = torch.randn(5, 3, generator=draws())
    teacher = torch.tensor(
        [[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.75, 0.05], [0.3, 0.4, 0.3]]
    )
    total, count = 0.0, 0
    for row, said in zip(logits.tolist(), teacher.tolist(), strict=True):
        if max(said) >= 0.7:
            label = said.index(max(said))
            total -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
            count += 1
    assert count == 3
    assert sure_loss(logits, teacher, 0.7).item() == pytest.approx(total / count, rel=1e-5)


def test_a_teacher_that_is_sure_of_nothing_gives_no_loss() -> None:
    logits = torch.randn(4, 3, generator=draws()).requires_grad_()
    loss = sure_loss(logits, torch.full((4, 3), 1 / 3), 0.7)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_fairness_is_the_equation_written_with_loops_and_least_where_classes_are_alike() -> None:
    p = torch.randn(6, 4, generator=draws()).softmax(dim=1)
    means = [sum(row[k] for row in p.tolist()) / 6 for k in range(4)]
    expected = -sum(math.log(mean) for mean in means) / 4
    assert fairness(p.log()).item() == pytest.approx(expected, rel=1e-5)
    alike = torch.eye(4).clamp(min=1e-9).log()  # each class once, and all sure
    assert fairness(alike).item() == pytest.approx(math.log(4), rel=1e-4)
    assert expected > math.log(4)


def test_two_clouds_are_found_although_the_texts_lean(loaded_vit: Backbone) -> None:
    given, labels = seen_evidence(loaded_vit, lean=0.45, noise=0.5), true_labels(2, 40)
    before = share_right(given.zero_shot.probabilities(given.test), labels)
    scores = must(given, 0, threshold=0.6, colours=False, steps=40, learning_rate=1e-3)
    assert share_right(scores.test, labels) > before + 0.02


def test_the_teachers_threshold_and_the_fairness_decide_what_is_learned(
    loaded_vit: Backbone,
) -> None:
    """Sure of nothing and with no other term the tower stays where it was, but for its decay."""
    given = seen_evidence(loaded_vit, per_class=10)
    still = must(
        given,
        0,
        threshold=1.1,
        fairness_weight=0.0,
        align_weight=0.0,
        covered=0.0,
        steps=2,
        learning_rate=0.0,
        head_learning_rate=0.0,
    )
    torch.testing.assert_close(
        still.pool, given.zero_shot.probabilities(given.pool), atol=2e-2, rtol=2e-2
    )
