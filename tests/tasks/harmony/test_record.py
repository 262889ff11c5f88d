"""Stages of a state as folders: which are finished, and what is told of a broken state."""

import shutil
from pathlib import Path

import pytest

from tasks.harmony.record import (
    KIND,
    Measured,
    StateRef,
    existing_state,
    read_accuracy,
    read_state,
    stage_folder,
    write_accuracy,
)
from tasks.specs import InputError
from tasks.storage.manifest import make_manifest, write_manifest
from tests.worlds.harmony import stage_ref

NAMES = ("photo", "Line drawing/2")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "birds"
    for number, name in enumerate(NAMES, 1):
        stage = stage_ref(name, ("cat", "dog"), number=number)
        manifest = make_manifest(KIND, stage.digest, ())
        facts = stage.record.model_dump(mode="json")
        write_manifest(
            stage_folder(read_state(str(folder)), name),
            manifest.model_copy(update={"facts": facts}),
        )
    return folder


def test_stages_come_back_in_order(state: Path) -> None:
    found = read_state(str(state))
    assert found.modalities == NAMES
    assert sorted(path.name for path in state.iterdir()) == ["001-photo", "002-line-drawing-2"]
    assert found.stage_of("PHOTO") == found.stages[0]
    assert found.before(found.stages[1]).modalities == NAMES[:1]


def test_a_stage_without_a_manifest_is_not_there(state: Path) -> None:
    (state / "002-line-drawing-2" / "manifest.json").unlink()
    assert read_state(str(state)).modalities == NAMES[:1]
    assert read_state(str(state / "none")).modalities == ()


def test_a_missing_stage_and_another_folder_are_told(state: Path) -> None:
    shutil.rmtree(state / "001-photo")
    with pytest.raises(InputError, match="expected the stages 1 to 1, found 2"):
        read_state(str(state))
    with pytest.raises(InputError, match="found no finished stage there"):
        existing_state(str(state.parent / "none"))
    write_manifest(str(state / "001-photo"), make_manifest("labels", "0", ()))
    with pytest.raises(InputError, match="expected a stage of Harmony, got something else"):
        read_state(str(state))


def test_what_is_measured_later_is_added(state: Path) -> None:
    last = read_state(str(state)).stages[-1]
    one = Measured(accuracy=0.5, guessed=0.25, count=8)
    assert read_accuracy(last) == {}
    write_accuracy(last, {"photo": one})
    write_accuracy(last, {"sound": one})
    assert read_accuracy(last) == {"photo": one, "sound": one}
    assert StateRef(uri="x").classes == ()
