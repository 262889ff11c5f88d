"""The expert's maps, how they start, and a bridge that at first changes nothing."""

import pytest
import torch
from torch import Tensor

from clipcore.libra.expert import BRIDGE_RANK, Bridge, Expert, LowRank, Start
from clipcore.libra.language import Language, Layer
from tests.worlds.libra import FULL_RANK
from tests.worlds.tensors import draws, same

MAPS = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip


def layer_of(language: Language) -> Layer:
    layer = language.layers[0]
    assert isinstance(layer, Layer)
    return layer


def expert_of(
    language: Language, rank: int | None, start: Start = "svd", *, seed: int = 0
) -> Expert:
    return Expert(layer_of(language), language.shape, rank=rank, start=start, generator=draws(seed))


def weight_of(module: torch.nn.Module) -> Tensor:
    assert isinstance(module, LowRank)
    return (module.b @ module.a).detach()


def source(language: Language, name: str) -> Tensor:
    return language.layers[0].get_parameter(f"{MAPS[name]}.weight")


@pytest.mark.parametrize("name", MAPS)
def test_with_all_ranks_it_starts_as_the_language_models_own(name: str, language: Language) -> None:
    found = weight_of(expert_of(language, FULL_RANK).maps[name])
    torch.testing.assert_close(found, source(language, name), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MAPS)
def test_with_few_it_starts_as_the_nearest_map_of_that_rank(name: str, language: Language) -> None:
    found, own = weight_of(expert_of(language, 5).maps[name]), source(language, name)
    singular = torch.linalg.svdvals(own)
    assert int(torch.linalg.matrix_rank(found)) == 5
    error = float((found - own).square().sum())  # Eckart and Young: what is left is the least
    assert error == pytest.approx(float(singular[5:].square().sum()), rel=1e-4)


@pytest.mark.parametrize("name", MAPS)
def test_by_default_the_rank_is_a_quarter_of_the_outputs(name: str, language: Language) -> None:
    low_rank = expert_of(language, None).maps[name]
    assert isinstance(low_rank, LowRank)
    out, size = source(language, name).shape
    assert low_rank.a.shape == (out // 4, size)
    assert low_rank.b.shape == (out, out // 4)


def test_the_papers_start_has_the_spread_that_the_model_states(language: Language) -> None:
    expert = expert_of(language, FULL_RANK, "normal")
    drawn = torch.cat([parameter.detach().flatten() for parameter in expert.maps.parameters()])
    assert len(drawn) > 10_000
    assert float(drawn.std()) == pytest.approx(language.shape.initializer_range, rel=0.03)
    assert float(drawn.mean()) == pytest.approx(0, abs=1e-3)
    again = expert_of(language, FULL_RANK, "normal")
    other = expert_of(language, FULL_RANK, "normal", seed=1)
    assert same(expert.state_dict(), again.state_dict())
    assert not same(expert.state_dict(), other.state_dict())


def test_norms_start_as_copies_that_learn(language: Language) -> None:
    expert, layer = expert_of(language, 4), layer_of(language)
    pairs = [
        (expert.input_norm, layer.input_layernorm),
        (expert.output_norm, layer.post_attention_layernorm),
    ]
    for own, theirs in pairs:
        assert torch.equal(own.weight, theirs.weight)
        assert own.eps == theirs.eps == 1e-5
        assert own.weight.data_ptr() != theirs.weight.data_ptr()
        assert own.weight.requires_grad
        assert not theirs.weight.requires_grad


def test_its_mlp_is_that_of_the_layer_where_its_maps_are(language: Language) -> None:
    x = torch.randn(7, language.shape.hidden_size, generator=draws(3))
    found = expert_of(language, FULL_RANK).mlp(x)
    torch.testing.assert_close(found, layer_of(language).mlp(x), atol=1e-5, rtol=0)


def test_a_bridge_adds_nothing_at_first_and_what_its_maps_say_later(language: Language) -> None:
    shape = language.shape
    bridge = Bridge(shape, generator=draws())
    text, image = (torch.randn(n, shape.hidden_size, generator=draws(n)) for n in (4, 3))
    for part in ("k", "v"):
        more = bridge(text, image, part)
        assert [tuple(one.shape) for one in more] == [(4, 16), (3, 16)]
        assert not any(one.any() for one in more)
    for number, parameter in enumerate(bridge.parameters()):
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=draws(number)))
    for part in ("k", "v"):
        for found, x, kind in zip(
            bridge(text, image, part), (text, image), ("language", "vision"), strict=True
        ):
            expected = x @ weight_of(bridge.maps[f"{part}_{kind}"]).T
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_bridge_has_four_maps_of_rank_eight(language: Language) -> None:
    bridge = Bridge(language.shape, generator=draws())
    assert set(bridge.maps) == {"k_language", "v_language", "k_vision", "v_vision"}
    for low_rank in bridge.maps.values():
        assert isinstance(low_rank, LowRank)
        assert len(low_rank.a) == BRIDGE_RANK == 8
        assert low_rank.a.any()
