"""Self-training: whom it believes, and that it finds clouds which the texts miss."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from clipcore.baselines.evidence import Evidence
from clipcore.baselines.self_training import self_training
from clipcore.baselines.zero_shot import zero_shot
from tests.worlds.evidence import evidence, share_right, true_labels


def slanted() -> Evidence:
    """Return clear clouds whose texts lean towards each other's."""
    given = evidence(classes=3, per_class=60, spread=0.8, gap=0.0, sentences=1)
    text = given.sentences[0]
    leaning = F.normalize(text + 0.9 * text.roll(1, dims=0), dim=1)
    return replace(given, sentences=leaning[None])


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
def test_it_believes_what_it_is_sure_of(threshold: float) -> None:
    given = evidence()
    positions, labels = [], []
    for row, scores in enumerate(given.zero_shot.probabilities(given.pool)):
        best = max(range(len(scores)), key=lambda label: float(scores[label]))
        if float(scores[best]) >= threshold:
            positions.append(row)
            labels.append(best)
    taught = self_training(given, 0, threshold=threshold, epochs=1).taught
    assert taught is not None
    assert taught.positions.tolist() == positions
    assert taught.labels.tolist() == labels


def test_clear_clouds_are_found_although_the_texts_lean() -> None:
    given, labels = slanted(), true_labels(3, 60)
    before = share_right(zero_shot(given, 0).pool, labels)
    after = share_right(self_training(given, 0).pool, labels)
    assert before < 0.95
    assert after > before + 0.03


def test_it_learns_nothing_where_it_is_sure_of_nothing() -> None:
    given = evidence()
    found = self_training(given, 0, threshold=1.01)
    assert torch.equal(found.pool, zero_shot(given, 0).pool)
    assert found.taught is None
    assert found.num_parameters == 0
