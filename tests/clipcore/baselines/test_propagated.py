"""Methods that begin with what neighbours have spread."""

import pytest
import torch

from clipcore.baselines.gda import discriminant
from clipcore.baselines.propagated import (
    fast,
    label_propagation,
    propagated_gda,
    propagated_stata,
)
from clipcore.baselines.stata import anchored
from clipcore.propagation import affinity_graph, propagate
from tests.worlds.evidence import evidence, share_right, true_labels


def test_the_pool_gets_what_a_dense_graph_spreads() -> None:
    given = evidence(classes=3, per_class=20)
    graph = affinity_graph([given.pool], k=10).to_dense()  # half of what a class has
    start = given.zero_shot.probabilities(given.pool)
    expected = start
    for _ in range(15):
        expected = 0.9 * graph @ expected + 0.1 * start
    expected = expected / expected.sum(dim=1, keepdim=True)
    torch.testing.assert_close(label_propagation(given, 0).pool, expected)


def test_other_images_listen_to_their_neighbours_in_the_pool() -> None:
    given = evidence(classes=3, per_class=20, test=5)
    scores = label_propagation(given, 0)
    start = given.zero_shot.probabilities(given.test)
    for row, image in enumerate(given.test):
        cosines = given.pool @ image
        best = cosines.argsort(descending=True)[:10].tolist()
        weight = sum(max(0.0, float(cosines[j])) for j in best)
        heard = sum(max(0.0, float(cosines[j])) * scores.pool[j] for j in best) / weight
        torch.testing.assert_close(scores.test[row], 0.9 * heard + 0.1 * start[row])


def test_gaussians_begin_at_what_was_spread() -> None:
    given = evidence()
    spread = propagate(
        given.zero_shot.probabilities(given.pool), affinity_graph([given.pool], k=10)
    )
    head = discriminant(given.pool, spread, spread.mean(dim=0))
    torch.testing.assert_close(propagated_gda(given, 0).test, head.probabilities(given.test))
    assigned, _ = anchored(given, spread.log())
    torch.testing.assert_close(propagated_stata(given, 0).pool, assigned)


def test_neighbours_mend_what_the_texts_mix_up() -> None:
    given = evidence(classes=5, per_class=40, spread=0.9, gap=2.0, seed=1)
    labels = true_labels(5, 40)
    before = share_right(given.zero_shot.probabilities(given.pool), labels)
    assert share_right(label_propagation(given, 0).pool, labels) > before


def test_the_quick_method_believes_the_images_as_far_as_there_are_some() -> None:
    given = evidence(classes=3, per_class=4, spread=2.0, test=9)
    found, alone = fast(given, 0), propagated_stata(given, 0, alpha=10.0, power=0.02)
    labels = given.zero_shot.probabilities(given.pool).argmax(dim=1)
    cosines = (given.pool @ given.pool.T).fill_diagonal_(-1)
    others = cosines.argsort(dim=1, descending=True)[:, :2]  # half of what a class has
    same = float((labels[others] == labels[:, None]).double().mean())
    chance = sum(float((labels == label).double().mean()) ** 2 for label in range(3))
    kappa = (same - chance) / (1 - chance)
    weight = 12 * kappa**2 / (12 * kappa**2 + 300 * (1 - kappa) ** 2)
    assert 0 < weight < 1
    for mixed, own, images in (
        (found.pool, alone.pool, given.pool),
        (found.test, alone.test, given.test),
    ):
        zero_shot = given.zero_shot.probabilities(images)
        torch.testing.assert_close(mixed, weight * own + (1 - weight) * zero_shot)


@pytest.mark.parametrize("per_class", [1, 2, 5, 20])
def test_the_quick_method_does_no_harm_where_there_are_few_images(per_class: int) -> None:
    """Neighbours of other classes outvote the sentences of a propagation alone."""
    kept, alone = [], []
    for seed in range(5):
        given = evidence(classes=20, per_class=per_class, spread=2.5, gap=1.0, test=400, seed=seed)
        labels = torch.arange(400) % 20
        before = share_right(given.zero_shot.probabilities(given.test), labels)
        kept.append(share_right(fast(given, 0).test, labels) - before)
        alone.append(share_right(propagated_stata(given, 0).test, labels) - before)
    assert sum(kept) / 5 > -0.005
    assert sum(alone) / 5 < -0.02
