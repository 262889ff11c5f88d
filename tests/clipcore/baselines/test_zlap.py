"""ZLaP, against the dense inverse written with loops."""

import torch
from torch import Tensor

from clipcore.baselines.evidence import Evidence
from clipcore.baselines.zlap import zlap
from tests.worlds.evidence import evidence, share_right, true_labels

K, GAMMA, ALPHA = 3, 5.0, 0.3


def weights_with_loops(given: Evidence) -> Tensor:
    """Return W of classes, then images, edge by edge."""
    classes, images = len(given.classes), len(given.pool)
    weights = torch.zeros(classes + images, classes + images, dtype=torch.float64)

    def tie(one: int, two: int, weight: float) -> None:
        weights[one, two] += weight
        weights[two, one] += weight

    for i, image in enumerate(given.pool):
        cosines = given.pool @ image
        others = sorted((j for j in range(images) if j != i), key=lambda j: -float(cosines[j]))
        for j in others[:K]:
            tie(classes + i, classes + j, max(0.0, float(cosines[j])))
        to_text = given.text @ image
        for c in sorted(range(classes), key=lambda c: -float(to_text[c]))[:K]:
            tie(classes + i, c, max(0.0, float(to_text[c])) ** GAMMA)
    return weights


def solved_with_loops(given: Evidence) -> Tensor:
    """Return what each class spreads to each node."""
    weights = weights_with_loops(given)
    degree = weights.sum(dim=1)
    graph = torch.zeros_like(weights)
    for i in range(len(weights)):
        for j in range(len(weights)):
            if degree[i] > 0 and degree[j] > 0:
                graph[i, j] = weights[i, j] / (degree[i] * degree[j]).sqrt()
    inverse = torch.linalg.inv(torch.eye(len(graph), dtype=torch.float64) - ALPHA * graph)
    return inverse[:, : len(given.classes)]


def test_the_pool_gets_the_inverse_laplacian_of_one_graph() -> None:
    given = evidence(classes=4, per_class=5)
    spread = solved_with_loops(given)[len(given.classes) :]
    expected = (spread / spread.sum(dim=1, keepdim=True)).float()
    found = zlap(given, 0, k=K, gamma=GAMMA, alpha=ALPHA).pool
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_other_images_listen_by_their_own_edges() -> None:
    given = evidence(classes=4, per_class=5, test=6)
    spread, classes = solved_with_loops(given), len(given.classes)
    expected = []
    for image in given.test:
        heard = torch.zeros(classes, dtype=torch.float64)
        cosines, to_text = given.pool @ image, given.text @ image
        for j in cosines.argsort(descending=True)[:K].tolist():
            heard += max(0.0, float(cosines[j])) * spread[classes + j]
        for c in to_text.argsort(descending=True)[:K].tolist():
            heard += max(0.0, float(to_text[c])) ** GAMMA * spread[c]
        expected.append(heard / heard.sum())
    found = zlap(given, 0, k=K, gamma=GAMMA, alpha=ALPHA).test
    torch.testing.assert_close(found, torch.stack(expected).float(), atol=1e-5, rtol=1e-4)


def test_neighbours_mend_what_the_texts_mix_up() -> None:
    given = evidence(classes=5, per_class=40, spread=0.9, gap=2.0, seed=1)
    labels = true_labels(5, 40)
    before = share_right(given.zero_shot.probabilities(given.pool), labels)
    assert share_right(zlap(given, 0).pool, labels) > before
