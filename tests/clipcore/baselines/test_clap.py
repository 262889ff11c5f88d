"""CLAP: its loss and multipliers with loops, and what its penalty holds."""

import torch

from clipcore.baselines.answers import answered
from clipcore.baselines.clap import clap, multipliers, objective
from clipcore.baselines.evidence import Evidence, Taught
from clipcore.baselines.zero_shot import zero_shot
from tests.worlds.evidence import evidence, few_answers, share_right, true_labels
from tests.worlds.tensors import draws


def asked(given: Evidence, shots: int = 4) -> tuple[torch.Tensor, Taught, torch.Tensor]:
    answers = few_answers(given, true_labels(3, 20), shots=shots)
    taught = answered(answers)
    return answers, taught, given.pool[taught.positions]


def test_multipliers_are_zero_shots_mean_probability_of_the_right_class() -> None:
    given = evidence(spread=1.5)
    _, taught, x = asked(given)
    scores = given.zero_shot.probabilities(x)
    for label, found in enumerate(multipliers(given.zero_shot, x, taught).tolist()):
        own = [
            float(row[label]) for row, y in zip(scores, taught.labels, strict=True) if y == label
        ]
        assert abs(found - sum(own) / len(own)) < 1e-6


def test_a_class_without_answers_is_held() -> None:
    given = evidence()
    only = Taught(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert multipliers(given.zero_shot, given.pool[:2], only)[1:].tolist() == [1.0, 1.0]


def test_the_loss_is_the_equation() -> None:
    given = evidence()
    _, taught, x = asked(given)
    weights = given.text + 0.3 * torch.randn(given.text.shape, generator=draws())
    penalties = torch.tensor([0.1, 0.5, 2.0])
    expected = 0.0
    for one, label in zip(x, taught.labels.tolist(), strict=True):
        logits = [given.logit_scale * float(one @ w / w.norm()) for w in weights]
        expected -= float(torch.tensor(logits).log_softmax(dim=0)[label]) / len(x)
    for w, t, penalty in zip(weights, given.text, penalties.tolist(), strict=True):
        expected += penalty * sum(float(a - b) ** 2 for a, b in zip(w, t, strict=True))
    found = objective(weights, given.zero_shot, x, taught, penalties)
    assert abs(float(found) - expected) < 1e-4


def test_an_infinite_penalty_is_zero_shot() -> None:
    given = evidence(spread=0.9, gap=4.0)
    answers, _, _ = asked(given)
    held, free = (clap(given, answers, 0, strength=strength) for strength in (1e6, 1.0))
    torch.testing.assert_close(held.pool, zero_shot(given, 0).pool, atol=1e-3, rtol=0)
    assert not torch.allclose(free.pool, held.pool, atol=0.05)


def test_it_ends_lower_than_it_begins_and_gains_over_zero_shot() -> None:
    given, labels = evidence(spread=0.9, gap=4.0), true_labels(3, 20)
    answers, taught, x = asked(given, shots=8)
    found = clap(given, answers, 0)
    assert found.head is not None
    held = multipliers(given.zero_shot, x, taught)
    before, after = (
        float(objective(weights, given.zero_shot, x, taught, held))
        for weights in (given.text, found.head.embeddings)
    )
    assert after < before
    before_share = share_right(zero_shot(given, 0).pool, labels)
    assert share_right(found.pool, labels) > before_share + 0.05


def test_without_answers_it_is_zero_shot() -> None:
    given = evidence()
    found = clap(given, torch.full((60,), -1), 0)
    assert torch.equal(found.pool, zero_shot(given, 0).pool)
    assert found.num_parameters == 0
