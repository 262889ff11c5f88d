"""StatA, against its updates written with loops."""

import pytest
import torch

from clipcore.baselines.evidence import Evidence
from clipcore.baselines.mixture import SMALLEST, ties
from clipcore.baselines.stata import anchored, stata
from tests.worlds.evidence import evidence, share_right, true_labels


def assigned_with_loops(given: Evidence, *, alpha: float, steps: int) -> torch.Tensor:
    x, text, dim = given.pool, given.text, given.pool.shape[1]
    beliefs, graph = given.zero_shot.probabilities(x), ties(x).to_dense()
    classes, floor = range(len(text)), SMALLEST / dim
    around = sum(beliefs[:, k] @ (x - text[k]) ** 2 for k in classes) / len(x)
    around = around.clamp(min=floor)
    means, variances, assigned = list(text), around, beliefs.clone()
    for _ in range(steps):
        logits = beliefs.log()
        for i in range(len(x)):
            for k in classes:
                logits[i, k] -= ((x[i] - means[k]) ** 2 / variances).sum() / 2
        for _ in range(5):
            assigned = (logits + graph @ assigned).softmax(dim=1)
        total, spread = len(x) + alpha * len(text), torch.zeros(dim)
        for k in classes:
            size = assigned[:, k].sum()
            share = size / (size + alpha)
            means[k] = share * (assigned[:, k] @ x / size) + (1 - share) * text[k]
            spread += assigned[:, k] @ (x - means[k]) ** 2
            spread += alpha * (around + (means[k] - text[k]) ** 2)
        variances = (spread / total).clamp(min=floor)
    return assigned


@pytest.mark.parametrize("alpha", [0.1, 1.0, 20.0])
def test_updates_are_those_of_the_docstring(alpha: float) -> None:
    given = evidence(classes=3, per_class=6)
    found = stata(given, 0, alpha=alpha, steps=3).pool
    expected = assigned_with_loops(given, alpha=alpha, steps=3)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_an_anchor_of_great_weight_keeps_the_gaussians_at_the_texts() -> None:
    given = evidence()
    _, gaussians = anchored(given, given.zero_shot.logits(given.pool), alpha=1e9)
    directions = gaussians.embeddings / gaussians.embeddings[0] * given.text[0]
    torch.testing.assert_close(directions, given.text, atol=1e-3, rtol=1e-3)


def test_balanced_clouds_are_found_where_texts_are_off() -> None:
    given = evidence(classes=4, per_class=50, spread=0.8, gap=4.0, seed=3)
    labels = true_labels(4, 50)
    before = share_right(given.zero_shot.probabilities(given.pool), labels)
    assert share_right(stata(given, 0).pool, labels) > before + 0.05
