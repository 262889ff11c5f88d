"""A head turns features into probabilities; a dual head says how right a label is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from clipcore.cleaning import cross_filter
from clipcore.head import DualHead, Head
from tests.worlds.tensors import random_features

COSINES = st.integers(-1000, 1000).map(lambda n: n / 1000)


def dual(scale: float) -> DualHead:
    return DualHead(Head(random_features(3, 8, 1), scale), random_features(3, 8, 2))


def test_a_prediction_is_the_nearest_class_with_its_softmax_probability() -> None:
    images, classes = random_features(20, 8), random_features(5, 8, seed=1)
    labels, confidence = Head(classes, 30.0).predict(images)
    for v, label, p in zip(images, labels, confidence, strict=True):
        cosines = torch.stack([v @ t for t in classes]).double()
        assert label == cosines.argmax()
        powers = (30 * cosines).exp()
        assert p.item() == pytest.approx((powers[label] / powers.sum()).item(), rel=1e-5)


def test_a_linear_layer_is_a_head() -> None:
    linear = nn.Linear(8, 5)
    images = random_features(20, 8)
    head = Head.of_linear(linear)
    torch.testing.assert_close(head.logits(images), linear(images).detach(), atol=1e-6, rtol=1e-5)
    assert head.embeddings.norm(dim=1).mean().item() == pytest.approx(1.0, rel=1e-5)
    assert not head.embeddings.requires_grad


def test_a_bias_moves_the_prediction() -> None:
    images, classes = random_features(20, 8), random_features(2, 8, seed=1)
    bias = torch.tensor([0.0, 1000.0])
    assert Head(classes, 1.0, bias).predict(images)[0].eq(1).all()
    assert not Head(classes, 1.0).predict(images)[0].eq(1).all()


@given(COSINES, COSINES, st.floats(1, 200))
def test_the_clean_probability_is_the_two_way_softmax_of_eq_5(
    positive: float, negative: float, scale: float
) -> None:
    gap = torch.tensor([positive - negative])
    p = dual(scale).clean_probability(gap)
    logits = scale * torch.tensor([positive, negative]).double()
    torch.testing.assert_close(p, logits.softmax(0)[:1].float(), atol=1e-5, rtol=0)


@given(COSINES.filter(bool), st.floats(1, 200))
def test_the_clean_decision_does_not_depend_on_the_logit_scale(gap: float, scale: float) -> None:
    gaps = torch.tensor([gap]).double()
    assert torch.equal(cross_filter(gaps), dual(scale).clean_probability(gaps) > 0.5)


def test_the_gap_ranks_what_the_probability_cannot_tell_apart() -> None:
    gaps = torch.tensor([0.2, 0.4])
    p = dual(100.0).clean_probability(gaps)
    assert p[0] == p[1] == 1
    assert gaps.argmax() == 1


def test_the_gap_is_taken_at_the_label() -> None:
    head, images = dual(50.0), random_features(4, 8, 3)
    labels = torch.tensor([2, 0, 1, 2])
    expected = [
        v @ head.positive.embeddings[k] - v @ head.negative[k]
        for v, k in zip(images, labels.tolist(), strict=True)
    ]
    torch.testing.assert_close(head.gap(images, labels), torch.stack(expected))
