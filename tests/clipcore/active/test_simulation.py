"""What a simulated round believes for the next one."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore.active.scores import Scores
from clipcore.active.simulation import Images, Method, State, believed
from clipcore.dual import DualLearner
from tests.worlds.tensors import draws, random_features

CLASSES = ("red", "green")


def untrained() -> DualLearner:
    raise AssertionError("nothing is trained here")


METHOD = Method(
    new_learner=untrained,
    train=lambda _learner, _data: None,
    strategy="paper",
    per_round=2,
    max_similarity=1.0,
    pseudo_labels=True,
    per_class=4,
    minimum_total=0,
    seed=0,
)


def world() -> tuple[Images, Scores]:
    """Return two groups of images, of which the learner takes both for red."""
    centres = torch.eye(6)[[0] * 12 + [1] * 12]
    features = F.normalize(centres + 0.05 * torch.randn(24, 6, generator=draws()))
    probabilities = torch.tensor([[0.6, 0.4]]).repeat(24, 1)
    gap = torch.rand(24, generator=draws(1))
    scores = Scores(random_features(24, 6), probabilities, gap, gap)
    return Images(features, features[:0], torch.zeros(0).long(), CLASSES), scores


def what_is_believed(answers: Tensor, method: Method) -> tuple[Tensor, Tensor]:
    images, pool = world()
    state = State(answers, pool.predicted, pool.gap)
    return believed(images, pool, state, method)


def test_answers_correct_the_images_that_look_like_theirs() -> None:
    answers = torch.full((24,), -1)
    answers[[0, 3, 6]], answers[[13, 16, 19, 22]] = 0, 1
    labels, confidence = what_is_believed(answers, replace(METHOD, spread_answers=True))
    assert labels.tolist() == [0] * 12 + [1] * 12
    assert bool(((confidence > 0.5) & (confidence <= 1)).all())


def test_without_answers_or_the_option_the_learner_is_believed() -> None:
    none, some = torch.full((24,), -1), torch.full((24,), -1)
    some[20] = 1
    _, pool = world()
    spreading = replace(METHOD, spread_answers=True)
    for answers, method in [
        (none, spreading),
        (some, METHOD),
        (some, replace(spreading, pseudo_labels=False)),
    ]:
        labels, confidence = what_is_believed(answers, method)
        assert torch.equal(labels, pool.predicted)
        assert torch.equal(confidence, pool.gap)
