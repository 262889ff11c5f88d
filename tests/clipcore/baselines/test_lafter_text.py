"""LaFTer on features: sentences teach first, then the classifier of sentences does."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from clipcore.baselines.lafter_text import lafter_text, text_classifier
from clipcore.baselines.zero_shot import zero_shot
from tests.worlds.evidence import evidence, share_right, true_labels
from tests.worlds.tensors import draws, random_features


def test_sentences_that_differ_in_manner_are_told_apart_better_than_by_their_mean() -> None:
    """All classes share a direction in which sentences differ from each other."""
    given = evidence(classes=10)
    manner = random_features(1, given.pool.shape[1], seed=5)
    length = 3 * torch.randn(6, 10, 1, generator=draws(2))
    sentences = F.normalize(given.text + length * manner, dim=2)
    given = replace(given, sentences=sentences)
    rows, labels = sentences.transpose(0, 1).flatten(0, 1), true_labels(10, 6)
    text = text_classifier(given, 0, epochs=60, noise=0.2)
    before, after = (share_right(head.logits(rows), labels) for head in (given.zero_shot, text))
    assert after > before + 0.05


def test_no_image_teaches_the_classifier_of_sentences() -> None:
    given = evidence()
    other = replace(given, pool=random_features(8, given.pool.shape[1]))
    one, two = (text_classifier(which, 0, epochs=3) for which in (given, other))
    assert torch.equal(one.embeddings, two.embeddings)


def test_every_image_is_believed_to_be_what_the_classifier_of_sentences_says() -> None:
    given = evidence()
    text = text_classifier(given, 0, epochs=5)
    taught = lafter_text(given, 0, text_epochs=5, epochs=2).taught
    assert taught is not None
    assert taught.positions.tolist() == list(range(60))
    expected = [max(range(3), key=lambda k: float(row[k])) for row in text.logits(given.pool)]
    assert taught.labels.tolist() == expected


def test_clear_clouds_are_found_although_the_texts_lean() -> None:
    given, labels = evidence(per_class=60, spread=0.8, gap=0.0, sentences=1), true_labels(3, 60)
    text = given.sentences[0]
    leaning = F.normalize(text + 0.9 * text.roll(1, dims=0), dim=1)
    given = replace(given, sentences=leaning[None])
    before = share_right(zero_shot(given, 0).pool, labels)
    assert share_right(lafter_text(given, 0, epochs=60).pool, labels) > before + 0.02
