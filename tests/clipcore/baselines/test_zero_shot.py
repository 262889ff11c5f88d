"""CLIP itself, against loops."""

import torch

from clipcore.baselines.zero_shot import sentence_ensemble, zero_shot
from tests.worlds.evidence import evidence


def test_zero_shot_is_the_softmax_of_scaled_cosines_with_the_mean_sentence() -> None:
    given = evidence()
    expected = []
    for image in given.pool:
        logits = []
        for number in range(len(given.classes)):
            mean = sum(given.sentences[:, number]) / len(given.sentences)
            logits.append(given.logit_scale * float(image @ mean / mean.norm()))
        expected.append(torch.tensor(logits).softmax(dim=0))
    torch.testing.assert_close(zero_shot(given, 0).pool, torch.stack(expected))


def test_sentences_asked_apart_are_averaged_as_probabilities() -> None:
    given = evidence()
    expected = torch.zeros(len(given.pool), len(given.classes))
    for one in given.sentences:
        for row, image in enumerate(given.pool):
            logits = torch.tensor([given.logit_scale * float(image @ text) for text in one])
            expected[row] += logits.softmax(dim=0) / len(given.sentences)
    torch.testing.assert_close(sentence_ensemble(given, 0).pool, expected)


def test_one_sentence_gives_the_same_by_both() -> None:
    given = evidence(sentences=1)
    torch.testing.assert_close(zero_shot(given, 0).test, sentence_ensemble(given, 0).test)
