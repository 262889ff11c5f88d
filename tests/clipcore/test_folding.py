"""Batch norms inside convolutions: the same function, the same gradients, fewer tensors."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from clipcore.backbone import Backbone, VisualTower
from clipcore.folding import FoldedConvolution, fold, foldable_pairs, folded_view
from tests.worlds.tensors import draws, random_pixels, same, snapshot


def with_statistics(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return the norm as one that has seen data."""
    for tensor, low in ((norm.running_mean, -1.0), (norm.running_var, 0.5)):
        assert tensor is not None
        tensor.uniform_(low, 2, generator=draws(2))
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 2, generator=draws(3))
        nn.init.uniform_(norm.bias, -1, 1, generator=draws(4))
    return norm.eval()


def gradients(tower: VisualTower, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return what parameters get from a loss that is computed through a tower in float64."""
    tower.zero_grad()
    x = torch.randn(3, 3, 64, 64, generator=draws(), dtype=torch.float64)
    (tower.encode_input(x) * torch.arange(tower.dim)).sum().backward()
    found = {name: value.grad for name, value in parameters.items()}
    return {name: grad.clone() for name, grad in found.items() if grad is not None}


@pytest.mark.parametrize("size", [9, 10, 11, 12])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, (3, 5)])
@pytest.mark.parametrize("layer", [nn.Conv2d, Conv2dSame])
def test_a_folded_convolution_is_the_convolution_and_its_norm(
    layer: type[nn.Conv2d], kernel: int | tuple[int, int], dilation: int, size: int
) -> None:
    for options in ({}, {"bias": False, "affine": False}, {"stride": 2}, {"stride": (1, 3)}):
        norm = with_statistics(nn.BatchNorm2d(6, affine=bool(options.pop("affine", True))))
        convolution = layer(4, 6, kernel, groups=2, dilation=dilation, **options)  # type: ignore[arg-type]
        x = torch.randn(2, 4, size, size + 1, generator=draws(5))
        expected = norm(convolution(x))
        torch.testing.assert_close(FoldedConvolution(convolution, norm)(x), expected)


def test_all_parameters_learn_the_same_through_a_folded_view(shipped: Backbone) -> None:
    tower = copy.deepcopy(shipped.visual).double().requires_grad_(requires_grad=True)
    before, parameters = snapshot(tower.state_dict()), dict(tower.named_parameters())
    view = folded_view(tower, "network")
    assert sum(isinstance(module, FoldedConvolution) for module in view.modules()) == 49
    expected, got = gradients(tower, parameters), gradients(view, parameters)
    assert expected.keys() == got.keys()
    assert len(got) == len(parameters)
    for name, gradient in expected.items():
        assert (got[name] - gradient).norm() <= 1e-5 * gradient.norm(), name
    assert same(tower.state_dict(), before)


def test_what_the_tower_learns_is_seen_by_its_view(timm: Backbone) -> None:
    tower = copy.deepcopy(timm.visual)
    view, pixels = folded_view(tower, "network"), random_pixels(3, tower.preprocess.size)
    with torch.no_grad():
        before = view(pixels)
        for parameter in tower.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws(1)))
        assert not torch.allclose(view(pixels), before, atol=1e-2)
        torch.testing.assert_close(view(pixels), tower(pixels), atol=1e-5, rtol=0)


def test_what_is_between_or_changes_the_weight_is_not_folded() -> None:
    class Standardized(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean()
            return nn.functional.conv2d(x, weight, self.bias)

    def network(convolution: nn.Conv2d) -> nn.Sequential:
        return nn.Sequential(convolution, with_statistics(nn.BatchNorm2d(4)))

    plain, other = network(nn.Conv2d(3, 4, 3)), network(Standardized(3, 4, 3))
    wrapped = network(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
    hooked = network(nn.Conv2d(3, 4, 3))
    hooked[0].register_forward_hook(lambda _module, _inputs, y: 2 * y)
    counts = [len(foldable_pairs(each)) for each in (plain, other, wrapped, hooked)]
    assert counts == [1, 0, 0, 0]


def test_settled_parameters_are_all_that_is_left() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), with_statistics(nn.BatchNorm2d(4)))
    x = torch.randn(2, 3, 8, 8, generator=draws())
    expected = network(x)
    fold(network, foldable_pairs(network), settled=True)
    assert [tuple(value.shape) for value in network.state_dict().values()] == [(4, 3, 3, 3), (4,)]
    torch.testing.assert_close(network(x), expected)
