"""Adapters: nothing changes when they come, only they learn, and nothing is left when they go."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipcore import adapters
from clipcore.adapters import Adapter
from clipcore.adapters.bottleneck import Bottleneck
from clipcore.adapters.lora import Lora
from clipcore.adapters.vpt import VisualPrompts
from clipcore.backbone import Backbone, VisualTower
from clipcore.backbone_names import AdapterName, UnsupportedBackbone, resolve_adapter
from tests.worlds.tensors import draws, random_pixels, same, snapshot

PAIRS = [("vit", "vpt"), ("vit", "lora"), ("vit", "bottleneck"), ("timm", "bottleneck")]
every_pair = pytest.mark.parametrize(("kind", "name"), PAIRS)
Fresh = Callable[[str], Backbone]


def attach(tower: VisualTower, name: AdapterName, seed: int = 0) -> Adapter:
    return adapters.attach(tower, name, generator=draws(seed), num_visual_prompts=3, lora_rank=2)


def disturb(adapter: Adapter, seed: int = 1) -> None:
    """Stand in for training: move everything that learns."""
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws(seed)))


def features(tower: VisualTower) -> Tensor:
    with torch.no_grad():
        return tower(random_pixels(2, tower.preprocess.size))


def learning(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


# --- every adapter --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [pair for pair in PAIRS if pair[1] != "vpt"])
def test_a_new_adapter_is_the_identity(kind: str, name: AdapterName, fresh: Fresh) -> None:
    tower = fresh(kind).visual
    before = features(tower)
    attach(tower, name)
    torch.testing.assert_close(features(tower), before, atol=1e-6, rtol=0)


@every_pair
def test_detached_leaves_the_tower_bit_for_bit_as_it_was(
    kind: str, name: AdapterName, fresh: Fresh
) -> None:
    tower = fresh(kind).visual
    state, before, learned = snapshot(tower.state_dict()), features(tower), learning(tower)
    adapter = attach(tower, name)
    disturb(adapter)
    assert not torch.equal(features(tower), before)
    adapter.detach()
    assert same(tower.state_dict(), state)
    assert torch.equal(features(tower), before)
    assert learning(tower) == learned == set()
    assert len(tower.adapters) == 0


@every_pair
def test_only_the_adapter_learns(kind: str, name: AdapterName, fresh: Fresh) -> None:
    clip = fresh(kind)
    adapter = attach(clip.visual, name)
    own = {id(parameter) for parameter in adapter.parameters()}
    assert own == {id(p) for p in clip.parameters() if p.requires_grad}
    disturb(adapter)  # LoRA's and the bottleneck's first factor learns once the second is not 0
    clip.visual(random_pixels(2, clip.visual.preprocess.size))[:, 0].sum().backward()
    for parameter in clip.parameters():
        learns = id(parameter) in own
        assert (parameter.grad is not None) == learns
        assert not learns or parameter.grad.abs().sum() > 0


@every_pair
def test_what_was_learned_is_carried_to_another_tower(
    kind: str, name: AdapterName, fresh: Fresh
) -> None:
    one, two = fresh(kind).visual, fresh(kind).visual
    trained, restored = attach(one, name), attach(two, name, seed=9)
    disturb(trained)
    restored.restore(snapshot(trained.tensors()))
    assert torch.equal(features(one), features(two))
    assert same(trained.tensors(), restored.tensors())


@every_pair
def test_merged_features_equal_attached_ones(kind: str, name: AdapterName, fresh: Fresh) -> None:
    tower = fresh(kind).visual
    adapter = attach(tower, name)
    disturb(adapter)
    before = features(tower)
    adapter.merge()
    torch.testing.assert_close(features(tower), before, atol=1e-6, rtol=0)


@every_pair
def test_a_merged_towers_state_holds_what_was_learned(
    kind: str, name: AdapterName, fresh: Fresh
) -> None:
    """A served tower has the adapter's modules (LoRA: none) and gets all values from the state."""
    tower, served = fresh(kind).visual, fresh(kind).visual
    adapter = attach(tower, name)
    disturb(adapter)
    adapter.merge()
    if name != "lora":
        attach(served, name, seed=9)
    served.load_state_dict(tower.state_dict())
    assert torch.equal(features(served), features(tower))


@every_pair
def test_the_seed_decides_how_an_adapter_starts(kind: str, name: AdapterName, fresh: Fresh) -> None:
    one, again, other = (
        snapshot(attach(fresh(kind).visual, name, seed).tensors()) for seed in (1, 1, 2)
    )
    assert same(one, again)
    assert not same(one, other)


@every_pair
def test_statistics_of_norms_do_not_change(kind: str, name: AdapterName, fresh: Fresh) -> None:
    """Also on a tower that is in training mode when the adapter comes."""
    tower = fresh(kind).visual
    buffers = snapshot(dict(tower.named_buffers()))
    tower.train()
    attach(tower, name)
    assert same(dict(tower.named_buffers()), buffers)
    tower.eval()
    features(tower)
    assert same(dict(tower.named_buffers()), buffers)


# --- which adapter --------------------------------------------------------------------------------


def test_auto_is_prompts_on_a_vit_and_a_bottleneck_elsewhere(vit: Backbone, timm: Backbone) -> None:
    assert resolve_adapter("vit", "auto") == "vpt"
    assert resolve_adapter("timm", "auto") == "bottleneck"
    assert isinstance(attach(vit.visual, "auto"), VisualPrompts)
    assert isinstance(attach(timm.visual, "auto"), Bottleneck)
    assert isinstance(attach(copy.deepcopy(timm.visual), "bottleneck"), Bottleneck)


@pytest.mark.parametrize("name", ["vpt", "lora"])
def test_adapters_of_a_vit_are_refused_on_timm(name: AdapterName, timm: Backbone) -> None:
    with pytest.raises(UnsupportedBackbone, match=f"'{name}' needs.*Use the adapter 'bottleneck'"):
        attach(timm.visual, name)


# --- visual prompts -------------------------------------------------------------------------------


def vpt_deep(network: Any, x: Tensor, tokens: Tensor) -> Tensor:
    """Return VPT-deep features step by step; what blocks make of their prompts is dropped."""
    x = network._embeds(x)
    own = x.shape[1]
    for block, prompts in zip(network.transformer.resblocks, tokens, strict=True):
        x = block(torch.cat([x, prompts.expand(len(x), -1, -1)], dim=1))[:, :own]
    return F.normalize(network._pool(x)[0] @ network.proj)


def test_visual_prompts_are_vpt_deep(vit: Backbone) -> None:
    plain = copy.deepcopy(vit.visual)
    prompts = VisualPrompts.attach(vit.visual, generator=draws(), num_prompts=5)
    x = plain.to_input(random_pixels(3, 32))
    with torch.no_grad():
        expected = vpt_deep(plain.network, x, prompts.tokens)
        torch.testing.assert_close(vit.visual.encode_input(x), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(expected, plain.encode_input(x), atol=1e-2)


def test_class_token_stays_first_and_prompts_last(vit: Backbone) -> None:
    network: Any = vit.visual.network
    prompts = VisualPrompts.attach(vit.visual, generator=draws(), num_prompts=5)
    entering: list[Tensor] = []
    for block in network.transformer.resblocks:
        block.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    left: list[Tensor] = []
    network.ln_post.register_forward_pre_hook(lambda _, inputs: left.append(inputs[0]))
    x = vit.visual.to_input(random_pixels(2, 32))
    with torch.no_grad():
        embedded = network._embeds(x)
        vit.visual.encode_input(x)
    assert [tuple(sequence.shape) for sequence in entering] == [(2, 5 + 5, 32)] * 2
    assert torch.equal(entering[0][:, :5], embedded)  # the class token, then four patches
    for sequence, tokens in zip(entering, prompts.tokens, strict=True):
        assert torch.equal(sequence[:, 5:], tokens.expand(2, -1, -1))
    assert left[0].shape == (2, 5, 32)


def test_after_the_last_block_with_prompts_their_outputs_go_on(vit: Backbone) -> None:
    network: Any = vit.visual.network
    prompts = VisualPrompts.attach(vit.visual, generator=draws(), num_prompts=3, depth=1)
    one, two = network.transformer.resblocks
    left, entering = [], []
    one.register_forward_hook(lambda _, __, output: left.append(output))
    two.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    with torch.no_grad():
        vit.visual(random_pixels(2, 32))
    assert prompts.tokens.shape[0] == 1
    assert torch.equal(entering[0], left[0])
    assert entering[0].shape[1] == 5 + 3


def test_prompts_on_prompts_are_the_prompts_of_both(vit: Backbone) -> None:
    plain = copy.deepcopy(vit.visual)
    one = VisualPrompts.attach(vit.visual, generator=draws(1), num_prompts=3)
    two = VisualPrompts.attach(vit.visual, generator=draws(2), num_prompts=5)
    x = plain.to_input(random_pixels(3, 32))
    with torch.no_grad():
        expected = vpt_deep(plain.network, x, torch.cat([one.tokens, two.tokens], dim=1))
        torch.testing.assert_close(vit.visual.encode_input(x), expected, atol=1e-6, rtol=0)
        two.detach()
        alone = vpt_deep(plain.network, x, one.tokens)
        torch.testing.assert_close(vit.visual.encode_input(x), alone, atol=1e-6, rtol=0)


def test_merged_prompts_are_what_they_followed(vit: Backbone) -> None:
    prompts = VisualPrompts.attach(vit.visual, generator=draws(), num_prompts=3)
    elsewhere = torch.ones(2, 3, 32)
    prompts.follow(lambda: elsewhere)
    x = vit.visual.to_input(random_pixels(2, 32))
    expected = vit.visual.encode_input(x).detach()
    prompts.merge()
    assert torch.equal(vit.visual.encode_input(x), expected)
    assert torch.equal(vit.visual.state_dict()["adapters.0.tokens"], elsewhere)
    with torch.no_grad():
        elsewhere.zero_()
    assert torch.equal(vit.visual.encode_input(x), expected)


def test_visual_prompts_start_uniform_within_the_bound_of_vpts_code(vit: Backbone) -> None:
    """Appendix A of VPT: a bound of sqrt(6 / (3 * patch area + width))."""
    prompts = VisualPrompts.attach(vit.visual, generator=draws(), num_prompts=400)
    bound = (6 / (3 * 16 * 16 + 32)) ** 0.5
    assert prompts.tokens.shape == (2, 400, 32)
    assert prompts.tokens.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert prompts.tokens.abs().max() <= bound
    assert prompts.tokens.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


# --- LoRA -----------------------------------------------------------------------------------------


def test_lora_changes_query_and_value_by_a_low_rank(vit: Backbone) -> None:
    network: Any = vit.visual.network
    attentions = [block.attn for block in network.transformer.resblocks]
    before = [attention.in_proj_weight.clone() for attention in attentions]
    lora = Lora.attach(vit.visual, generator=draws(), rank=2, alpha=6.0)
    disturb(lora)
    factors = [(update.up.detach(), update.down.detach()) for update in lora.updates]
    lora.merge()
    for attention, old, (up, down) in zip(attentions, before, factors, strict=True):
        query, key, value = (attention.in_proj_weight - old).chunk(3)
        assert not key.any()
        for found, u, d in ((query, up[0], down[0]), (value, up[1], down[1])):
            assert torch.linalg.matrix_rank(found.double(), atol=1e-5) == 2
            torch.testing.assert_close(found, 6 / 2 * u @ d, atol=1e-6, rtol=0)


def test_lora_of_keys_too_on_the_text_tower(vit: Backbone) -> None:
    attention = vit.text.transformer.resblocks[1].attn
    before, tokens = attention.in_proj_weight.clone(), vit.tokenize(["a cat", "a dog"])
    plain = vit.text(tokens)
    lora = Lora.on(vit.text.transformer, generator=draws(), rank=2, alpha=1.0, keys=True)
    torch.testing.assert_close(vit.text(tokens), plain, atol=1e-5, rtol=0)
    disturb(lora)
    update = lora.updates[1]
    up, down = update.up.detach(), update.down.detach()
    assert not torch.allclose(vit.text(tokens), plain, atol=1e-3)
    lora.merge()
    for part, moved in enumerate((attention.in_proj_weight - before).chunk(3)):
        torch.testing.assert_close(moved, 0.5 * up[part] @ down[part], atol=1e-6, rtol=0)


def test_lora_trains_its_factors_only(vit: Backbone) -> None:
    lora = Lora.attach(vit.visual, generator=draws(), rank=2)
    assert {tuple(parameter.shape) for parameter in lora.parameters()} == {(2, 2, 32), (2, 32, 2)}
    assert len(list(lora.parameters())) == 4  # two blocks


def test_merged_lora_leaves_the_names_of_a_plain_tower(vit: Backbone) -> None:
    before = {name: value.shape for name, value in vit.visual.state_dict().items()}
    lora = Lora.attach(vit.visual, generator=draws())
    assert vit.visual.state_dict().keys() != before.keys()
    lora.merge()
    assert {name: value.shape for name, value in vit.visual.state_dict().items()} == before


# --- the bottleneck -------------------------------------------------------------------------------


def test_bottleneck_is_its_equation(timm: Backbone) -> None:
    before = features(timm.visual)
    adapter = Bottleneck.attach(timm.visual, generator=draws())
    with torch.no_grad():
        adapter.up.normal_(generator=draws(3))
    found = features(timm.visual)
    hidden = torch.relu(torch.einsum("hd,nd->nh", adapter.down, before))
    expected = F.normalize(before + torch.einsum("dh,nh->nd", adapter.up, hidden))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert adapter.down.shape == (32 // 4, 32)


@pytest.mark.parametrize(("kind", "norm"), [("timm", nn.BatchNorm2d), ("vit", nn.LayerNorm)])
def test_scale_and_shift_of_every_norm_learn_and_nothing_else_of_the_tower(
    kind: str, norm: type[nn.Module], fresh: Fresh
) -> None:
    tower = fresh(kind).visual
    Bottleneck.attach(tower, generator=draws())
    norms = {name for name, module in tower.named_modules() if isinstance(module, norm)}
    expected = {f"{name}.{part}" for name in norms for part in ("weight", "bias")}
    assert learning(tower) == expected | {"adapters.0.down", "adapters.0.up"}
    assert len(norms) > 4


def test_bottleneck_on_the_shipped_backbone(shipped: Backbone) -> None:
    tower = shipped.visual
    state, before = snapshot(tower.state_dict()), features(tower)
    adapter = attach(tower, "auto")
    torch.testing.assert_close(features(tower), before, atol=1e-6, rtol=0)
    disturb(adapter)
    assert (features(tower) - before).abs().max() > 1e-3
    adapter.detach()
    assert same(tower.state_dict(), state)
    assert torch.equal(features(tower), before)


def test_bottleneck_is_counted_once_in_the_tower(timm: Backbone) -> None:
    adapter = Bottleneck.attach(timm.visual, generator=draws())
    ids = [id(parameter) for parameter in timm.visual.parameters()]
    assert len(set(ids)) == len(ids)
    assert {id(parameter) for parameter in adapter.parameters()} <= set(ids)
    listed = [id(parameter) for parameter in adapter.parameters()]
    assert len(set(listed)) == len(listed)


def test_detached_norms_learn_again_if_they_did_before(vit: Backbone) -> None:
    tower = vit.visual.requires_grad_(requires_grad=True)
    before = learning(tower)
    adapter = Bottleneck.attach(tower, generator=draws())
    adapter.detach()
    assert learning(tower) == before


def test_a_second_adapter_stands_on_the_first_and_comes_off_alone(timm: Backbone) -> None:
    tower = timm.visual
    first = attach(tower, "bottleneck")
    disturb(first)
    before = features(tower)
    second = attach(tower, "bottleneck", seed=1)
    torch.testing.assert_close(features(tower), before, atol=1e-6, rtol=0)
    with torch.no_grad():
        for parameter in (second.down, second.up):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws(2)))
    correction = F.relu(before @ second.down.T) @ second.up.T
    torch.testing.assert_close(features(tower), F.normalize(before + correction))
    assert len(tower.adapters) == 2
    second.detach()
    assert torch.equal(features(tower), before)
