"""One contract for every method; what each one computes is tested in a file of its own."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import signature

import pytest
import torch
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.baselines.evidence import Evidence, Scores
from clipcore.baselines.methods import LABELLED_METHODS, METHODS
from tests.worlds.evidence import evidence, few_answers, true_labels

ALL = [*METHODS, *LABELLED_METHODS]
TENSORS = ("pool", "test", "sentences")


def quick(method: Callable[..., Scores]) -> Callable[..., Scores]:
    """Return a method whose words learn for a few steps: no promise depends on how many."""
    return partial(method, steps=4) if "steps" in signature(method).parameters else method


def run(name: str, given: Evidence, labels: Tensor, seed: int = 0) -> Scores:
    if name in METHODS:
        return quick(METHODS[name])(given, seed)
    return quick(LABELLED_METHODS[name])(given, few_answers(given, labels), seed)


def check_probabilities(scores: Tensor, images: int, classes: int) -> None:
    assert scores.shape == (images, classes)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    assert bool((scores >= 0).all())
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(images))  # NaN is not close


def check(scores: Scores, given: Evidence) -> None:
    check_probabilities(scores.pool, len(given.pool), len(given.classes))
    check_probabilities(scores.test, len(given.test), len(given.classes))
    assert scores.num_parameters >= 0
    if scores.head is not None:
        torch.testing.assert_close(scores.head.probabilities(given.test), scores.test)
    if scores.taught is not None:
        positions, labels = scores.taught
        assert len(positions) == len(labels) == len(set(positions.tolist()))
        assert all(0 <= one < len(given.pool) for one in positions.tolist())
        assert all(0 <= one < len(given.classes) for one in labels.tolist())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("classes", [2, 3, 40])
def test_scores_are_probabilities_of_all_classes(
    name: str, classes: int, loaded_vit: Backbone
) -> None:
    given = evidence(classes=classes, per_class=6, load_backbone=lambda: loaded_vit)
    check(run(name, given, true_labels(classes, 6)), given)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_thousand_classes_of_one_image(name: str, loaded_vit: Backbone) -> None:
    given = evidence(classes=1000, per_class=1, load_backbone=lambda: loaded_vit)
    check(run(name, given, true_labels(1000, 1)), given)


@pytest.mark.parametrize("name", ALL)
def test_a_class_without_images_and_one_sentence_a_class(name: str, loaded_vit: Backbone) -> None:
    given = evidence(classes=5, per_class=6, empty=2, sentences=1, load_backbone=lambda: loaded_vit)
    check(run(name, given, true_labels(3, 6)), given)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("test", [0, 1])
def test_one_image_and_none_to_test(name: str, test: int, loaded_vit: Backbone) -> None:
    given = evidence(classes=3, per_class=1, empty=2, test=test, load_backbone=lambda: loaded_vit)
    check(run(name, given, true_labels(1, 1)), given)


@pytest.mark.parametrize("name", ALL)
def test_images_that_are_all_alike(name: str, loaded_vit: Backbone) -> None:
    given = evidence(classes=3, per_class=4, spread=0.0, empty=2, load_backbone=lambda: loaded_vit)
    check(run(name, given, true_labels(1, 4)), given)


@pytest.mark.parametrize("name", ALL)
def test_equal_seeds_give_equal_scores_and_change_nothing(name: str, loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    before = {name: getattr(given, name).clone() for name in TENSORS}
    state = torch.get_rng_state()
    first = run(name, given, true_labels(3, 20))
    again = run(name, given, true_labels(3, 20))
    assert torch.equal(first.pool, again.pool)
    assert torch.equal(first.test, again.test)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(getattr(given, name), value) for name, value in before.items())


@pytest.mark.parametrize("name", METHODS)
def test_images_that_are_classified_only_teach_nothing(name: str, loaded_vit: Backbone) -> None:
    """Scores of the pool do not depend on them, and theirs not on each other."""
    given = evidence(load_backbone=lambda: loaded_vit)
    fewer = replace(given, test=given.test[:7])
    method = quick(METHODS[name])
    one, two = method(given, 0), method(fewer, 0)
    assert torch.equal(one.pool, two.pool)
    torch.testing.assert_close(one.test[:7], two.test)


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_the_classes_does_not_matter(name: str, loaded_vit: Backbone) -> None:
    """Up to draws and ties, which no method may prefer a class by."""
    given = evidence(spread=0.5, gap=0.3, load_backbone=lambda: loaded_vit)
    order = torch.tensor([2, 0, 1])
    turned = replace(
        given,
        sentences=given.sentences[:, order],
        classes=tuple(given.classes[number] for number in order.tolist()),
    )
    labels = true_labels(3, 20)
    one = run(name, given, labels)
    two = run(name, turned, order.argsort()[labels])
    agree = (one.test.argmax(dim=1) == order[two.test.argmax(dim=1)]).float().mean()
    assert agree > 0.9
