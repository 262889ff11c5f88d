"""Stages: what they equal where they should equal something, and what they leave alone."""

from typing import Any

import pytest
import torch

from clipcore.checkpoint import tensors_sha256
from clipcore.harmony.baselines import Ewc, L2p, Lwf, Nothing, Replay, learn_jointly
from clipcore.harmony.keeping import Harmony
from clipcore.harmony.stage import KnownModality, Method, learn_stage
from clipcore.harmony.state import State, from_tensors, predict, to_tensors
from clipcore.harmony.trunk import PartName, TrunkName
from tests.worlds.modalities import STEPS, WIDTHS, accuracy, fresh, learned, samples


def digest(state: State, name: str) -> str:
    tensors, header = to_tensors(state)
    number = header["modalities"].index(name)
    return tensors_sha256({k: v for k, v in tensors.items() if k.startswith(f"modality.{number}.")})


@pytest.mark.parametrize(
    "method", [Harmony(), Harmony.as_written(), Lwf(), Ewc(), Replay(2)], ids=str
)
def test_the_first_stage_is_plain_training(method: Method) -> None:
    plain, kept = (learned(fresh(), "photo", one, steps=5) for one in (Nothing(), method))
    inputs, _ = samples("photo", seed=1)
    assert torch.equal(plain.logits("photo", inputs), kept.logits("photo", inputs))


@pytest.mark.parametrize("trunk", ["mlp", "transformer"])
def test_without_weights_and_gate_it_is_sequential_training_of_adapters(trunk: TrunkName) -> None:
    none = Harmony(retention=0.0)
    one, two = fresh(trunk), fresh(trunk)
    for name in ("photo", "sound"):
        one = learned(one, name, none, steps=5)
        two = learned(two, name, Nothing(), steps=5)
    for name in ("photo", "sound"):
        inputs, _ = samples(name, seed=1)
        assert torch.equal(one.logits(name, inputs), two.logits(name, inputs))


@pytest.mark.parametrize("method", [Nothing(), Harmony(retention=0.0, aggregate=True)], ids=str)
def test_a_frozen_trunk_answers_for_earlier_modalities_as_it_did(method: Method) -> None:
    state = learned(fresh(), "photo", method)
    inputs, _ = samples("photo", seed=1)
    before = state.logits("photo", inputs)
    for name in ("sketch", "sound"):
        state = learned(state, name, method, freeze_trunk=True)
    assert torch.equal(state.logits("photo", inputs), before)
    assert accuracy(state, "sound") > 0.8


def test_a_stage_leaves_what_is_kept_of_earlier_ones_and_the_state_before_alone() -> None:
    first = learned(fresh(), "photo", Harmony())
    before = tensors_sha256(to_tensors(first)[0]), digest(first, "photo")
    second = learned(first, "sound", Harmony())
    assert (tensors_sha256(to_tensors(first)[0]), digest(second, "photo")) == (*before,)
    assert not torch.equal(first.trunk.projection.weight, second.trunk.projection.weight)


def test_equal_seeds_give_equal_states_and_others_do_not() -> None:
    runs = [learned(learned(fresh(), "photo", Harmony()), "sound", Harmony()) for _ in range(2)]
    one, two = (tensors_sha256(to_tensors(state)[0]) for state in runs)
    other = learn_stage(runs[0], "sketch", [samples("sketch")], method=Harmony(), seed=1, steps=2)
    same = learn_stage(runs[1], "sketch", [samples("sketch")], method=Harmony(), seed=2, steps=2)
    assert one == two
    assert digest(other, "sketch") != digest(same, "sketch")


@pytest.mark.parametrize("method", [Lwf, Ewc, Replay, Harmony.as_written], ids=str)
def test_other_methods_learn_each_modality(method: Any) -> None:
    one, state = method(), fresh()
    for name in ("photo", "sound"):
        state = learned(state, name, one)
        assert accuracy(state, name) > 0.8


def test_one_pool_of_prompts_goes_through_all_stages() -> None:
    state = fresh("transformer")
    for name in ("photo", "sound"):
        state = learned(state, name, L2p(), part_name="prompts", freeze_trunk=True)
    again = from_tensors(*to_tensors(state))
    pools = [one.part for one in state.modalities.values()]
    assert pools[0] is pools[1]
    inputs, _ = samples("photo", seed=1)
    assert torch.equal(state.logits("photo", inputs), again.logits("photo", inputs))
    assert accuracy(state, "sound") > 0.5
    with pytest.raises(ValueError, match="expected the trunk `transformer`"):
        learned(fresh(), "photo", L2p(), part_name="prompts")


@pytest.mark.parametrize(("part_name", "at_least"), [("adapter", 0.9), ("none", 0.5)])
def test_all_at_once_is_right_about_all(part_name: PartName, at_least: float) -> None:
    """Without adapters one trunk has to tell apart what the same numbers mean in each modality."""
    data = {name: [samples(name)] for name in WIDTHS}
    state = learn_jointly(
        fresh(), data, seed=0, part_name=part_name, steps=2 * STEPS, learning_rate=3e-3
    )
    assert min(accuracy(state, name) for name in WIDTHS) > at_least


def test_classes_that_a_stage_has_not_are_left_out_of_what_it_keeps() -> None:
    inputs, labels = samples("photo")
    some = labels < 2
    state = learn_stage(
        fresh(), "photo", [(inputs[some], labels[some])], method=Harmony(), seed=0, steps=STEPS
    )
    assert state.modalities["photo"].inputs.present.tolist() == [True, True, False]
    after = learned(state, "sound", Harmony())
    assert torch.isfinite(after.logits("photo", inputs)).all()
    only_new = labels == 2
    sound, _ = samples("sound")
    alone = learn_stage(
        state, "sound", [(sound[only_new], labels[only_new])], method=Harmony(), seed=0, steps=2
    )
    assert torch.isfinite(alone.logits("sound", sound)).all()


def test_a_modality_is_learned_once() -> None:
    state = learned(fresh(), "photo", Harmony())
    with pytest.raises(KnownModality, match="photo was learned already"):
        learned(state, "photo", Harmony())


@pytest.mark.parametrize("trunk", ["mlp", "transformer"])
@pytest.mark.parametrize("aggregate", [False, True])
def test_a_state_comes_back_from_tensors(trunk: TrunkName, aggregate: bool) -> None:  # noqa: FBT001
    state = fresh(trunk)
    for name in ("photo", "sound"):
        state = learned(state, name, Harmony(aggregate=aggregate), steps=3)
    again = from_tensors(*to_tensors(state))
    for name in ("photo", "sound"):
        inputs, _ = samples(name, seed=1)
        assert torch.equal(state.logits(name, inputs), again.logits(name, inputs))
        assert again.modalities[name].num_bytes == state.modalities[name].num_bytes
    guessed = predict(again, samples("photo", seed=1)[0])
    assert set(guessed.modalities) == {"photo"}
    assert torch.allclose(guessed.probabilities.sum(dim=1), torch.ones(90))


def test_no_tensor_of_a_state_has_a_row_for_each_sample() -> None:
    tensors, _ = to_tensors(learned(fresh(), "photo", Harmony()))
    assert not [name for name, one in tensors.items() if 90 in one.shape]
