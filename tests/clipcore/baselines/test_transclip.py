"""TransCLIP, against its three updates written with loops."""

import torch

from clipcore.baselines.evidence import Evidence
from clipcore.baselines.mixture import SMALLEST, ties
from clipcore.baselines.transclip import transclip
from tests.worlds.evidence import evidence, share_right, true_labels


def assigned_with_loops(given: Evidence, *, surest: int, steps: int) -> torch.Tensor:
    x, classes, dim = given.pool, len(given.classes), given.pool.shape[1]
    beliefs, graph = given.zero_shot.probabilities(x), ties(x).to_dense()
    means = []
    for k in range(classes):
        best = sorted(range(len(x)), key=lambda i: -float(beliefs[i, k]))[:surest]
        means.append(sum(x[i] for i in best) / len(best))
    variances = torch.full((dim,), 1 / dim)
    assigned = beliefs.clone()
    for _ in range(steps):
        logits = torch.stack(
            [
                torch.stack(
                    [
                        beliefs[i, k].log() - ((x[i] - means[k]) ** 2 / variances).sum() / 2
                        for k in range(classes)
                    ]
                )
                for i in range(len(x))
            ]
        )
        for _ in range(5):
            assigned = (logits + graph @ assigned).softmax(dim=1)
        means = [assigned[:, k] @ x / assigned[:, k].sum() for k in range(classes)]
        spread = sum(assigned[:, k] @ (x - means[k]) ** 2 for k in range(classes)) / len(x)
        variances = spread.clamp(min=SMALLEST / dim)
    return assigned


def test_updates_are_those_of_the_paper() -> None:
    given = evidence(classes=3, per_class=6)
    found = transclip(given, 0, surest=2, steps=3).pool
    expected = assigned_with_loops(given, surest=2, steps=3)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_balanced_clouds_are_found_where_texts_are_off() -> None:
    given = evidence(classes=4, per_class=50, spread=0.8, gap=4.0, seed=3)
    labels = true_labels(4, 50)
    before = share_right(given.zero_shot.probabilities(given.pool), labels)
    assert share_right(transclip(given, 0).pool, labels) > before + 0.05


def test_classes_without_images_cost_it_images_of_others() -> None:
    """Each class begins at its surest images, also one that has none: the known weakness."""
    given = evidence(classes=8, per_class=40, empty=5, spread=0.8, gap=0.8, seed=1)
    taken = (transclip(given, 0).pool.argmax(dim=1) >= 3).sum()
    zero_shot = (given.zero_shot.probabilities(given.pool).argmax(dim=1) >= 3).sum()
    assert taken > zero_shot
