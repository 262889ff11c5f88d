"""What a state or a model knows: names in any spelling, one tower for images, known widths."""

import pytest

from tasks.harmony.known import KnownModality, KnownState
from tasks.harmony.record import StateRef
from tasks.specs import InputError
from tests.worlds.harmony import BACKBONE, stage_ref


def known(*modalities: KnownModality) -> KnownState:
    return KnownState(uri="state", digest="0", modalities=modalities)


PHOTO = KnownModality(name="Photo", width=128, tower=BACKBONE)
SKETCH = KnownModality(name="sketch", width=128, tower=BACKBONE)
XRAY = KnownModality(name="xray", width=64, tower=BACKBONE.model_copy(update={"name": "other"}))
SOUND = KnownModality(name="sound", width=9)


def test_a_state_is_its_newest_stage() -> None:
    stages = [stage_ref(name, ("cat", "dog"), number=n) for n, name in enumerate(("a", "b"), 1)]
    found = KnownState.of_stages(StateRef(uri="state", stages=tuple(stages)))
    assert [(one.name, one.width, one.tower) for one in found.modalities] == [
        ("a", 8, None),
        ("b", 8, None),
    ]
    assert (found.uri, found.digest) == ("state/001", "2")


def test_a_name_is_known_in_any_spelling() -> None:
    assert known(PHOTO, SOUND).named("PHOTO") == PHOTO
    with pytest.raises(InputError, match="expected one of the modalities Photo, sound, got 'x'"):
        known(PHOTO, SOUND).named("x")


def test_images_are_of_modalities_that_one_tower_sees() -> None:
    assert list(known(PHOTO, SKETCH, SOUND).of_images(None)) == [PHOTO, SKETCH]
    assert list(known(PHOTO, XRAY).of_images("xray")) == [XRAY]
    with pytest.raises(InputError, match=r"Photo \(embedded:glyph\), xray \(other\); say which"):
        known(PHOTO, XRAY).of_images(None)
    with pytest.raises(InputError, match="nothing was learned from images, only sound"):
        known(SOUND).of_images(None)
    with pytest.raises(InputError, match="sound was learned from features"):
        known(PHOTO, SOUND).of_images("sound")


def test_a_tower_is_elsewhere_unless_a_model_has_it() -> None:
    assert known(PHOTO, SOUND).tower_elsewhere(None) == BACKBONE
    own = PHOTO.model_copy(update={"place": 0})
    assert known(own, SOUND).tower_elsewhere(None) is None


def test_a_width_is_one_that_was_learned() -> None:
    found = known(PHOTO, SOUND)
    found.check_width(9, None, "it")
    found.check_width(9, "sound", "it")
    with pytest.raises(InputError, match="it has 9 features; learned were Photo from 128"):
        found.check_width(9, "Photo", "it")
