"""LaFTer through the tower: one step by hand, and labels that are wrong at random."""

import math

import pytest
import torch

from clipcore.augment import strong_view, view_size
from clipcore.backbone import Backbone
from clipcore.baselines.lafter import lafter
from clipcore.baselines.lafter_text import text_classifier
from clipcore.fit import Schedule, cycled
from tests.worlds.evidence import seen_evidence, share_right, true_labels


def test_the_head_goes_against_the_gradient_of_smoothed_labels(loaded_timm: Backbone) -> None:
    """AdamW's first step is the rate, against the sign of the gradient, here written with loops."""
    given, rate = seen_evidence(loaded_timm, per_class=8), 1e-4
    scores = lafter(given, 3, text_epochs=2, steps=1, batch_size=5, learning_rate=rate)
    text = text_classifier(given, 3, epochs=2)
    labels = [max((0, 1), key=lambda k: float(row[k])) for row in text.logits(given.pool)]
    schedule = Schedule(epochs=1, batch_size=5, seed=3, stream="lafter")
    draw, visual = schedule.draws(0), loaded_timm.visual
    (batch,) = cycled(16, batch_size=5, steps=1)(draw)
    (pixels,) = given.load_pixels().pool([batch])
    view = strong_view(
        visual.to_input(pixels), visual.preprocess, generator=draw, size=view_size(visual)
    )
    with torch.no_grad():
        features = visual.encode_input(view)
    start = text.logit_scale * text.embeddings
    gradient = torch.zeros_like(start)
    for feature, place in zip(features, batch.tolist(), strict=True):
        said = (start @ feature).softmax(dim=0)
        for k in range(2):
            wanted = 0.9 * (k == labels[place]) + 0.1 / 2
            gradient[k] += (said[k] - wanted) * feature / 5
    assert scores.tuned is not None
    step = scores.tuned.state["head.weight"] - start * (1 - rate * 1e-4)
    clear = gradient.abs() > 1e-5
    assert int(clear.sum()) > 20
    assert step[clear].tolist() == pytest.approx((-rate * gradient[clear].sign()).tolist(), rel=0.1)


def test_labels_that_are_wrong_at_random_are_outvoted(loaded_vit: Backbone) -> None:
    given, labels = seen_evidence(loaded_vit, wrong=4), true_labels(2, 40)
    scores = lafter(given, 0, colours=False, steps=40, learning_rate=2e-3)
    assert scores.taught is not None
    right = labels[scores.taught.positions] == scores.taught.labels
    assert float(right.float().mean()) == pytest.approx(0.75, abs=0.05)
    assert share_right(scores.pool, labels) > 0.9
    assert math.isclose(float(scores.pool.sum()), 80, rel_tol=1e-4)
