"""Learned words: where they begin, that they learn, and that nothing else does."""

import torch

from clipcore.backbone import Backbone
from clipcore.baselines.context import learn_context, learn_words
from clipcore.baselines.evidence import Taught
from clipcore.zero_shot import class_embeddings
from tests.worlds.evidence import evidence, true_labels
from tests.worlds.tensors import draws, snapshot


def test_before_any_step_the_words_are_a_photo_of_a(loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    words = learn_context(
        given, lambda embeddings, _: embeddings.sum(), 5, draws=draws(), seed=0, steps=0
    )
    sentence = class_embeddings(loaded_vit, given.classes, ["a photo of a {}."])
    torch.testing.assert_close(words.embeddings, sentence, atol=1e-5, rtol=1e-4)
    assert words.num_parameters == 4 * loaded_vit.text.width


def test_more_words_begin_as_noise(loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    one, two, same = (
        learn_context(
            given,
            lambda embeddings, _: embeddings.sum(),
            5,
            draws=draws(seed),
            seed=0,
            steps=0,
            num_context_tokens=6,
        ).embeddings
        for seed in (0, 1, 0)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, two)


def test_words_learn_and_the_text_tower_does_not(loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    before = snapshot(loaded_vit.state_dict())
    losses = []
    target = torch.roll(given.text, 1, dims=0)

    def loss(embeddings: torch.Tensor, _rows: torch.Tensor) -> torch.Tensor:
        value = (embeddings - target).square().sum()
        losses.append(value.detach())
        return value

    learn_context(given, loss, 5, draws=draws(), seed=0, steps=20)
    assert losses[-1] < losses[0] - 0.05
    after = loaded_vit.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_loss_of_what_is_taught_falls(loaded_vit: Backbone) -> None:
    given, labels = evidence(load_backbone=lambda: loaded_vit), true_labels(3, 20)
    taught = Taught(torch.arange(60), labels)
    losses = []
    for steps in (0, 30):
        head, _ = learn_words(given, taught, seed=0, stream="test", steps=steps)
        scores = head.probabilities(given.pool)
        own = [float(row[label].log()) for row, label in zip(scores, labels, strict=True)]
        losses.append(-sum(own) / 60)
    assert losses[1] < losses[0] - 0.1


def test_who_is_taught_nothing_is_zero_shot_and_asks_for_no_backbone() -> None:
    given = evidence()
    nothing = torch.zeros(0, dtype=torch.long)
    head, num_parameters = learn_words(given, Taught(nothing, nothing), seed=0, stream="test")
    assert torch.equal(head.embeddings, given.text)
    assert num_parameters == 0
