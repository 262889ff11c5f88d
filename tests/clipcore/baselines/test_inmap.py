"""InMaP: proxies that learn from refined pseudo-labels, against loops."""

import torch
import torch.nn.functional as F

from clipcore.baselines.inmap import balanced, inmap
from tests.worlds.evidence import evidence, share_right, true_labels


def test_refined_labels_give_every_class_as_many_images() -> None:
    given = evidence(classes=4, per_class=10, gap=1.0)
    found = balanced(given.zero_shot.probabilities(given.pool), rounds=200)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(40))
    torch.testing.assert_close(found.sum(dim=0), torch.full((4,), 10.0), atol=0.05, rtol=0)


def test_one_round_is_columns_then_rows() -> None:
    start = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    expected = start.clone()
    for column in range(2):
        expected[:, column] *= 1.5 / sum(float(start[row, column]) for row in range(3))
    for row in range(3):
        expected[row] /= sum(float(expected[row, column]) for column in range(2))
    torch.testing.assert_close(balanced(start, rounds=1), expected)


def test_a_step_is_the_gradient_of_the_divergence_back_on_the_sphere() -> None:
    given = evidence(classes=3, per_class=6)
    temperature = 0.04
    targets = balanced(given.zero_shot.probabilities(given.pool))
    for row in targets:
        if float(row.max()) > 0.6:
            row.copy_(F.one_hot(row.argmax(), 3))
    proxies = given.text.clone().requires_grad_()
    said = (given.pool @ proxies.T / temperature).log_softmax(dim=1)
    loss = F.kl_div(said, targets, reduction="batchmean")
    loss.backward()
    assert proxies.grad is not None
    moved = F.normalize(proxies.detach() - 10.0 * proxies.grad, dim=1)
    head = inmap(given, 0, temperature=temperature, steps=1).head
    assert head is not None
    torch.testing.assert_close(head.embeddings, moved, atol=1e-5, rtol=1e-4)


def test_balanced_clouds_are_found_where_texts_are_off() -> None:
    given = evidence(classes=4, per_class=50, spread=0.8, gap=4.0, seed=3)
    labels = true_labels(4, 50)
    before = share_right(given.zero_shot.probabilities(given.pool), labels)
    assert share_right(inmap(given, 0).pool, labels) > before
