"""What other ways of keeping note down, and what they make of it."""

import pytest
import torch
from torch import Tensor

from clipcore.harmony.baselines import Ewc, Lwf, Nothing
from clipcore.harmony.stage import Step
from clipcore.harmony.state import State
from tests.worlds.modalities import fresh, learned, samples


def noted(state: State, labels: Tensor) -> list[Tensor]:
    """Return the Fisher that is noted after a stage."""
    one = Ewc()
    h = state.modalities["photo"].stem(samples("photo")[0])
    assert one.end(state, h, labels) is state
    return one._anchored[0][0]


def test_the_fisher_is_of_what_the_model_says_and_not_of_the_labels() -> None:
    """Of what is known by heart the true labels say nothing: their gradients have gone."""
    state = learned(fresh(), "photo", Nothing())
    labels = samples("photo")[1]
    one, two = noted(state, labels), noted(state, labels.flip(0))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert min(float(part.min()) for part in one) >= 0
    assert sum(float(part.sum()) for part in one) > 1


def test_what_a_trunk_that_has_moved_no_longer_says_costs_by_weight() -> None:
    """Without movement nothing is lost; the branch that counts is that of each earlier modality."""
    state = learned(fresh(), "photo", Nothing())
    moved = learned(state, "sound", Nothing()).trunk
    inputs, labels = samples("photo")
    past = state.modalities["photo"]
    h = past.stem(inputs)
    lost = []
    for weight, trunk in ((1.0, state.trunk), (1.0, moved), (3.0, moved)):
        keeper = Lwf(weight).begin(state, past.inputs, 0)
        lost.append(float(keeper(Step(trunk, None, h, trunk(h, None), labels))))
    now, before = (state.scores(one(h, past.part)).softmax(dim=1) for one in (moved, state.trunk))
    expected = (before * (before / now).log()).sum(dim=1).mean()
    assert lost == pytest.approx([0.0, float(expected), 3 * float(expected)], rel=1e-4, abs=1e-6)
