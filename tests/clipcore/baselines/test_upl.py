"""UPL: whom it believes, and how its members vote."""

import pytest
import torch

from clipcore.backbone import Backbone
from clipcore.baselines.upl import surest, upl
from tests.worlds.evidence import evidence


def test_of_each_predicted_class_the_most_confident_are_taken_and_none_twice() -> None:
    given = evidence(classes=4, spread=1.5)
    found = surest(given.zero_shot, given.pool, 5)
    scores = given.zero_shot.probabilities(given.pool).tolist()
    expected = {}
    for label in range(4):
        own = [row for row, one in enumerate(scores) if one.index(max(one)) == label]
        best = sorted(own, key=lambda row: -max(scores[row]))[:5]
        expected |= dict.fromkeys(best, label)
    assert found.positions.tolist() == sorted(expected)
    assert found.labels.tolist() == [expected[row] for row in sorted(expected)]


def test_it_learns_from_the_surest_by_zero_shot(loaded_vit: Backbone) -> None:
    given = evidence(load_backbone=lambda: loaded_vit)
    found = upl(given, 0, per_class=3, steps=2)
    expected = surest(given.zero_shot, given.pool, 3)
    assert found.taught is not None
    assert torch.equal(found.taught.positions, expected.positions)
    assert torch.equal(found.taught.labels, expected.labels)
    assert found.num_parameters == 4 * loaded_vit.text.width


@pytest.mark.parametrize("num_context_tokens", [4, 6])
def test_members_differ_and_are_averaged_as_probabilities(
    num_context_tokens: int, loaded_vit: Backbone
) -> None:
    given = evidence(per_class=120, load_backbone=lambda: loaded_vit)
    one, two = (
        upl(given, 0, per_class=99, members=members, steps=3, num_context_tokens=num_context_tokens)
        for members in (1, 2)
    )
    second = 2 * two.pool - one.pool
    assert not torch.allclose(second, one.pool, atol=1e-5, rtol=0)
    torch.testing.assert_close(second.sum(dim=1), torch.ones(len(second)), atol=1e-4, rtol=0)
    assert bool((second > -1e-5).all())
    assert two.head is None
    assert two.num_parameters == 2 * one.num_parameters
