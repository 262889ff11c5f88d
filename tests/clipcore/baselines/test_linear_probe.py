"""The linear probe: scikit-learn's scores as a head, and classes that nobody has shown."""

import pytest
import torch

from clipcore.baselines.linear_probe import head_of, linear_probe
from clipcore.baselines.zero_shot import zero_shot
from clipcore.logistic import fit_logistic
from tests.worlds.evidence import evidence, few_answers, share_right, true_labels


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_head_says_what_scikit_learn_says(classes: int) -> None:
    given, labels = evidence(classes=classes), true_labels(classes, 20)
    fitted = fit_logistic(given.pool, labels, 10.0)
    head, shown = head_of(fitted)
    assert shown.tolist() == list(range(classes))
    expected = torch.from_numpy(fitted.predict_proba(given.test.numpy())).float()
    torch.testing.assert_close(head.probabilities(given.test), expected, atol=1e-5, rtol=1e-4)


def test_all_answers_teach_more_than_the_texts_know() -> None:
    given, labels = evidence(spread=0.9, gap=4.0), true_labels(3, 20)
    found = linear_probe(given, labels, 0)
    assert found.head is not None
    assert share_right(found.pool, labels) > share_right(zero_shot(given, 0).pool, labels) + 0.1


def test_a_class_without_answers_keeps_zero_shots_probability() -> None:
    given = evidence(classes=4)
    answers = few_answers(given, true_labels(4, 20))
    answers[answers == 2] = -1
    known = torch.nonzero(answers >= 0).flatten()
    probe = fit_logistic(given.pool[known], answers[known], 10.0)
    shares = probe.predict_proba(given.test.numpy()).tolist()
    before = zero_shot(given, 0).test.tolist()
    found = linear_probe(given, answers, 0)
    assert found.head is None
    for row, share, start in zip(found.test.tolist(), shares, before, strict=True):
        rest = start[0] + start[1] + start[3]
        expected = [rest * share[0], rest * share[1], start[2], rest * share[2]]
        assert row == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shown", [[], [1]])
def test_one_class_or_none_is_zero_shot(shown: list[int]) -> None:
    given = evidence()
    answers = torch.full((60,), -1)
    for label in shown:
        answers[20 * label : 20 * label + 3] = label
    assert torch.equal(linear_probe(given, answers, 0).pool, zero_shot(given, 0).pool)


def test_images_held_out_choose_where_there_are_enough() -> None:
    given, labels = evidence(spread=1.5), true_labels(3, 20)
    chosen = linear_probe(given, labels, 0, enough=50, strength=1e-4)
    fixed = linear_probe(given, labels, 0, enough=61, strength=1e-4)
    assert not torch.allclose(chosen.pool, fixed.pool, atol=1e-2)
    torch.testing.assert_close(fixed.pool, torch.full((60, 3), 1 / 3), atol=1e-2, rtol=0)
