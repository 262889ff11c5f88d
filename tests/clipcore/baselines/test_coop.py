"""CoOp: answers teach words, also of classes that nobody has shown."""

import torch

from clipcore.backbone import Backbone
from clipcore.baselines.coop import coop
from clipcore.baselines.zero_shot import zero_shot
from tests.worlds.evidence import evidence, few_answers, true_labels


def loss_of(scores: torch.Tensor, answers: torch.Tensor) -> float:
    own = [
        float(row[label].log())
        for row, label in zip(scores, answers.tolist(), strict=True)
        if label >= 0
    ]
    return -sum(own) / len(own)


def test_answers_become_likelier(loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    answers = few_answers(given, true_labels(3, 20), shots=4)
    before, after = (loss_of(coop(given, answers, 0, steps=n).pool, answers) for n in (0, 30))
    assert after < before - 0.1


def test_only_answers_count(loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    one = few_answers(given, true_labels(3, 20))
    other = torch.where(one >= 0, (one + 1) % 3, one)
    first, second = (coop(given, known, 0, steps=5) for known in (one, other))
    assert not torch.allclose(first.pool, second.pool, atol=1e-3)


def test_words_of_all_classes_learn_from_the_answers_of_one(loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    answers = torch.full((60,), -1)
    answers[:3] = 0
    before, after = (coop(given, answers, 0, steps=steps).head for steps in (0, 5))
    assert before is not None
    assert after is not None
    assert bool((before.embeddings != after.embeddings).any(dim=1).all())


def test_without_answers_it_is_zero_shot() -> None:
    given = evidence()
    found = coop(given, torch.full((60,), -1), 0)
    assert torch.equal(found.pool, zero_shot(given, 0).pool)
    assert found.num_parameters == 0
