"""DPA: each of its parts with loops, and what both kinds of prototypes find."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from clipcore.baselines.dpa import (
    Weighed,
    alignment,
    dpa,
    fused_labels,
    image_prototypes,
    objective,
    rank_weights,
)
from clipcore.baselines.evidence import Taught
from clipcore.baselines.zero_shot import zero_shot
from clipcore.head import Head
from tests.worlds.evidence import evidence, share_right, true_labels
from tests.worlds.tensors import draws, random_features

SCALE = 20.0


def test_image_prototypes_move_to_the_mean_of_their_images() -> None:
    features, before = random_features(9, 5), random_features(4, 5, seed=1)
    taught = Taught(torch.tensor([0, 2, 5, 7]), torch.tensor([0, 0, 3, 0]))
    found = image_prototypes(features, taught, before, momentum=0.3)
    for label in range(4):
        own = [row for row, y in zip(*taught, strict=True) if y == label]
        expected = before[label]
        if own:
            mean = F.normalize(sum(features[row] for row in own), dim=0)
            expected = F.normalize(0.3 * before[label] + 0.7 * mean, dim=0)
        torch.testing.assert_close(found[label], expected)


def test_labels_weigh_by_their_rank_within_their_class() -> None:
    agreement = torch.tensor([0.9, 0.2, 0.8, 0.5, 0.9])
    labels = torch.tensor([1, 1, 1, 0, 1])
    expected = torch.tensor([1.0, 0.25, 0.5, 1.0, 0.75])  # of equals the earlier one first
    torch.testing.assert_close(rank_weights(agreement, labels), expected)


@pytest.mark.parametrize("mix", [0.0, 0.4, 1.0])
def test_labels_are_those_of_the_mixture(mix: float) -> None:
    x = random_features(12, 6)
    text, image = Head(random_features(3, 6, seed=1), SCALE), Head(random_features(3, 6, 2), SCALE)
    found = fused_labels(x, text, image, mix=mix)
    for row, label in enumerate(found.labels.tolist()):
        one = (SCALE * x[row] @ text.embeddings.T).softmax(dim=0)
        two = (SCALE * x[row] @ image.embeddings.T).softmax(dim=0)
        fused = [mix * float(a) + (1 - mix) * float(b) for a, b in zip(one, two, strict=True)]
        assert label == fused.index(max(fused))


def test_the_loss_is_the_equation() -> None:
    x, text, image = random_features(7, 6), random_features(3, 6, 1), random_features(3, 6, 2)
    labels = torch.tensor([0, 1, 2, 0, 0, 1, 2])
    weights = torch.rand(7, generator=draws())
    p = torch.stack([(SCALE * one @ text.T).softmax(dim=0) for one in x])
    own = sum(w * -p[i, y].log() for i, (w, y) in enumerate(zip(weights, labels, strict=True)))
    fair = -sum((sum(p[i, k] for i in range(7)) / 7).log() for k in range(3)) / 3
    align = -sum((SCALE * text[k] @ image.T).log_softmax(dim=0)[k] for k in range(3)) / 3
    torch.testing.assert_close(alignment(text, image, SCALE), align)
    found = objective(
        Head(text, SCALE), image, x, Weighed(labels, weights), fairness_weight=0.7, align_weight=0.2
    )
    torch.testing.assert_close(found, own / weights.sum() + 0.7 * fair + 0.2 * align)


def test_clear_clouds_are_found_although_the_texts_lean() -> None:
    given, labels = evidence(per_class=60, spread=0.8, gap=0.0, sentences=1), true_labels(3, 60)
    text = given.sentences[0]
    leaning = F.normalize(text + 0.9 * text.roll(1, dims=0), dim=1)
    given = replace(given, sentences=leaning[None])
    before = share_right(zero_shot(given, 0).pool, labels)
    assert share_right(dpa(given, 0).pool, labels) > before + 0.02
