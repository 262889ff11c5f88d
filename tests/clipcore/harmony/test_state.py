"""Classes that come later."""

import pytest
import torch
from torch import Tensor

from clipcore.harmony.keeping import Harmony
from clipcore.harmony.stage import learn_stage
from clipcore.harmony.state import State, from_tensors, predict, to_tensors, with_classes
from tests.worlds.modalities import RATE, STEPS, fresh, learned, samples
from tests.worlds.tensors import draws, random_features

FOURTH = random_features(1, 24, seed=8)


@pytest.fixture(scope="module")
def photos() -> State:
    return learned(fresh(), "photo", Harmony())


def sound_of_four(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return sound of the three classes and of a fourth, whose place is its own."""
    inputs, labels = samples("sound", seed=seed)
    more = 4 + torch.randn(30, inputs.shape[1], generator=draws(seed + 50))
    return torch.cat([inputs, more]), torch.cat([labels, torch.full((30,), 3)])


def test_a_further_class_changes_no_feature_and_no_logit_of_the_others(photos: State) -> None:
    grown = with_classes(photos, ["four"], FOURTH)
    inputs, _ = samples("photo", seed=1)
    assert grown.classes == ("one", "two", "three", "four")
    assert torch.equal(grown.features("photo", inputs), photos.features("photo", inputs))
    logits = grown.logits("photo", inputs)
    torch.testing.assert_close(logits[:, :3], photos.logits("photo", inputs))
    own = grown.features("photo", inputs) @ FOURTH[0] * grown.scale
    torch.testing.assert_close(logits[:, 3], own)
    assert photos.classes == ("one", "two", "three")


def test_what_is_kept_knows_nothing_of_a_further_class(photos: State) -> None:
    grown = with_classes(photos, ["four"], FOURTH)
    before, after = photos.modalities["photo"], grown.modalities["photo"]
    for old, new in ((before.inputs, after.inputs), (before.outputs, after.outputs)):
        assert new.present.tolist() == [True, True, True, False]
        assert torch.equal(new.mean[:3], old.mean)
        torch.testing.assert_close(new.std[:3], old.std)
    inputs, _ = samples("photo", seed=1)
    again = from_tensors(*to_tensors(grown))
    assert torch.equal(again.logits("photo", inputs), grown.logits("photo", inputs))


@pytest.mark.parametrize("freeze_trunk", [False, True])
def test_a_later_stage_learns_it_and_earlier_ones_stay(
    photos: State,
    freeze_trunk: bool,  # noqa: FBT001
) -> None:
    grown = with_classes(photos, ["four"], FOURTH)
    after = learn_stage(
        grown,
        "sound",
        [sound_of_four()],
        method=Harmony(),
        seed=0,
        steps=STEPS,
        learning_rate=RATE,
        freeze_trunk=freeze_trunk,
    )
    inputs, labels = sound_of_four(seed=1)
    right = after.logits("sound", inputs).argmax(dim=1) == labels
    assert float(right[labels == 3].float().mean()) > 0.9
    assert float(right.float().mean()) > 0.8
    seen, known = samples("photo", seed=1)
    said = predict(after, seen, "photo").probabilities
    assert float((said[:, :3].argmax(dim=1) == known).float().mean()) > 0.9
    if freeze_trunk:
        assert torch.equal(after.features("photo", seen), photos.features("photo", seen))
