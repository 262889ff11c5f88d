"""Tip-Adapter: its logits with loops, its choice, and its keys that learn."""

import math

import pytest
import torch

from clipcore.baselines.answers import answered
from clipcore.baselines.tip_adapter import (
    ALPHA,
    ALPHAS,
    BETA,
    BETAS,
    Cache,
    Strength,
    choose,
    tip_adapter,
    tip_adapter_f,
)
from clipcore.baselines.zero_shot import zero_shot
from tests.worlds.evidence import evidence, few_answers, share_right, true_labels


def test_the_scores_are_the_equation() -> None:
    given = evidence()
    answers = few_answers(given, true_labels(3, 20))
    alpha, beta = 2.0, 4.0
    expected = []
    for image in given.test:
        logits = [given.logit_scale * float(image @ text) for text in given.text]
        for key, label in zip(given.pool, answers.tolist(), strict=True):
            if label >= 0:
                logits[label] += alpha * math.exp(-beta * (1 - float(image @ key)))
        expected.append(torch.tensor(logits).softmax(dim=0))
    found = tip_adapter(given, answers, 0, alpha=alpha, beta=beta)
    torch.testing.assert_close(found.test, torch.stack(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", [tip_adapter, tip_adapter_f])
def test_with_alpha_zero_or_without_answers_it_is_zero_shot(method: object) -> None:
    assert callable(method)
    given = evidence()
    answers = few_answers(given, true_labels(3, 20))
    expected = zero_shot(given, 0).pool
    torch.testing.assert_close(method(given, answers, 0, alpha=0.0).pool, expected)
    torch.testing.assert_close(method(given, torch.full((60,), -1), 0).pool, expected)


def test_the_choice_is_the_best_one_with_each_answer_left_out() -> None:
    given = evidence(spread=1.2, gap=2.0)
    positions, labels = answered(few_answers(given, true_labels(3, 20), shots=6))
    cache = Cache(given.pool[positions], labels, 3)
    right = {}
    for alpha in ALPHAS:
        for beta in BETAS:
            hits = 0
            for own, key in enumerate(cache.keys):
                logits = [given.logit_scale * float(key @ text) for text in given.text]
                for other, label in enumerate(labels.tolist()):
                    if other != own:
                        near = float(key @ cache.keys[other])
                        logits[label] += alpha * math.exp(-beta * (1 - near))
                hits += int(logits.index(max(logits)) == int(labels[own]))
            right[Strength(alpha, beta)] = hits
    chosen = choose(cache, given.zero_shot)
    assert right[chosen] == max(right.values())
    assert all(one.alpha >= chosen.alpha for one, hits in right.items() if hits == right[chosen])


def test_answers_that_are_alone_in_their_class_choose_nothing() -> None:
    given = evidence()
    positions, labels = answered(few_answers(given, true_labels(3, 20), shots=1))
    assert choose(Cache(given.pool[positions], labels, 3), given.zero_shot) == (ALPHA, BETA)


def test_the_cache_corrects_texts_that_are_wrong() -> None:
    given, labels = evidence(gap=2.0), true_labels(3, 20)
    answers = few_answers(given, labels, shots=6)
    before = share_right(zero_shot(given, 0).pool, labels)
    assert share_right(tip_adapter(given, answers, 0).pool, labels) > before + 0.05


def test_keys_that_learn_fit_the_answers_better_than_keys_that_stay() -> None:
    given = evidence(spread=1.5, gap=2.0)
    answers = few_answers(given, true_labels(3, 20), shots=6)
    known = torch.nonzero(answers >= 0).flatten()
    stay, learn = (
        method(given, answers, 0, alpha=3.0, beta=3.0) for method in (tip_adapter, tip_adapter_f)
    )
    own = [float(-one.pool[known, answers[known]].log().mean()) for one in (stay, learn)]
    assert own[1] < own[0]
    assert stay.num_parameters == 0
    assert learn.num_parameters == len(known) * given.pool.shape[1]
