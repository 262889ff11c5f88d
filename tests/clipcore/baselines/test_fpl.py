"""FPL, IFPL and GRIP: how many they believe, and whose labels."""

import pytest
import torch
from hypothesis import given as example
from hypothesis import strategies as st

from clipcore.backbone import Backbone
from clipcore.baselines.context import learn_words
from clipcore.baselines.fpl import fpl, grip, growing, ifpl
from clipcore.baselines.upl import surest
from tests.worlds.evidence import evidence


@example(st.integers(1, 500), st.integers(2, 50), st.integers(1, 12))
def test_the_share_of_each_class_grows_until_there_is_room_for_all(
    num_samples: int, num_classes: int, iterations: int
) -> None:
    sizes = growing(num_samples, num_classes, iterations)
    assert len(sizes) == iterations
    assert sizes == sorted(sizes)
    assert sizes[-1] * num_classes >= num_samples > (sizes[-1] - 1) * num_classes
    assert sizes[0] >= 1


def test_grip_ends_with_the_whole_pool_where_classes_are_even() -> None:
    given = evidence(spread=0.1, gap=0.1)
    (size,) = growing(60, 3, 1)
    assert surest(given.zero_shot, given.pool, size).positions.tolist() == list(range(60))


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_each_iteration_is_taught_by_the_words_before(
    iterations: int, loaded_vit: Backbone
) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    heads = {ifpl: given.zero_shot, grip: given.zero_shot}
    for method, sizes in ((ifpl, [4] * iterations), (grip, growing(60, 3, iterations))):
        for size in sizes:
            taught = surest(heads[method], given.pool, size)
            heads[method], _ = learn_words(given, taught, seed=0, stream="fpl", steps=3)
    found = ifpl(given, 0, per_class=4, iterations=iterations, steps=3)
    grown = grip(given, 0, iterations=iterations, steps=3)
    assert torch.equal(found.pool, heads[ifpl].probabilities(given.pool))
    assert torch.equal(grown.pool, heads[grip].probabilities(given.pool))


def test_fpl_is_one_iteration(loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    one = fpl(given, 0, per_class=4, steps=3)
    two = ifpl(given, 0, per_class=4, iterations=1, steps=3)
    assert torch.equal(one.pool, two.pool)
