"""The moving average: Eq. 8 of CoFT with loops, and what never learns."""

import pytest
import torch
from torch import nn

from clipcore.ema import MovingAverage
from tests.worlds.tensors import draws, same, snapshot


def small(seed: int = 0) -> nn.Sequential:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=draws(seed))
    return module


def test_each_update_is_the_equation_written_with_loops() -> None:
    module = small()
    average = MovingAverage(module, momentum=0.9)
    expected = [parameter.detach().flatten().tolist() for parameter in module.parameters()]
    for step in range(5):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=draws(step)))
        average.update(module)
        for kept, parameter in zip(expected, module.parameters(), strict=True):
            for place, value in enumerate(parameter.flatten().tolist()):
                kept[place] = 0.9 * kept[place] + 0.1 * value
    found = [parameter.flatten().tolist() for parameter in average.module.parameters()]
    for one, two in zip(found, expected, strict=True):
        assert one == pytest.approx(two, abs=1e-6)


def test_an_average_starts_as_the_module_has_no_gradient_and_takes_its_statistics() -> None:
    module = small()
    average = MovingAverage(module, momentum=0.5)
    assert same(average.tensors(), module.state_dict())
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    module.train()(torch.randn(8, 3, generator=draws()))
    assert not average.module.training
    average.update(module)
    assert same(dict(average.module.named_buffers()), dict(module.named_buffers()))


@pytest.mark.parametrize(("momentum", "follows"), [(0.0, True), (1.0, False)])
def test_momentum_0_copies_and_1_stands_still(momentum: float, follows: bool) -> None:  # noqa: FBT001
    start, later = small(0), small(1)
    average = MovingAverage(start, momentum=momentum)
    average.update(later)
    assert same(average.tensors(), (later if follows else start).state_dict())


def test_a_restored_average_goes_on_as_if_nothing_had_happened() -> None:
    one, later = MovingAverage(small(0), momentum=0.7), small(2)
    one.update(later)
    two = MovingAverage(small(5), momentum=0.7)
    two.restore(snapshot(one.tensors()))
    for average in (one, two):
        average.update(small(3))
    assert same(one.tensors(), two.tensors())


@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_a_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 1; got {momentum}"):
        MovingAverage(small(), momentum=momentum)
