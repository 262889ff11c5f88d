"""A state and its towers, written, read back bit for bit, and told from other models."""

from pathlib import Path

import pytest
import torch

from clipcore.classifier import load_classifier
from clipcore.description import DESCRIPTION, BrokenModel, kind_of
from clipcore.harmony.bundle import KIND, load_model, load_tower
from clipcore.harmony.state import to_tensors
from tests.worlds.classifier import save_tiny_classifier
from tests.worlds.modal_model import modal_state, save_modal_model, tower
from tests.worlds.pickles import is_pickle
from tests.worlds.tensors import random_pixels


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    folder = save_modal_model(tmp_path)
    model = load_model(folder)
    tensors, header = to_tensors(model.state)
    expected, same = to_tensors(modal_state())
    assert header == same
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())
    pixels = random_pixels(3, 16)
    assert torch.equal(load_tower(folder, 0)(pixels), tower()(pixels))
    names = {"weights.safetensors", "tower-1.safetensors", DESCRIPTION}
    assert {path.name for path in folder.iterdir()} == names
    assert not any(is_pickle(path.read_bytes()) for path in folder.iterdir())


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    modal, images = save_modal_model(tmp_path / "a"), save_tiny_classifier(tmp_path / "b")
    assert (kind_of(modal), kind_of(images)) == (KIND, "classifier")
    with pytest.raises(BrokenModel, match="of the kind classifier, got 'harmony'"):
        load_classifier(modal)
    with pytest.raises(BrokenModel, match="of the kind harmony, got 'classifier'"):
        load_model(images)


@pytest.mark.parametrize("name", ["weights.safetensors", "tower-1.safetensors"])
def test_a_folder_that_is_not_complete_is_refused(tmp_path: Path, name: str) -> None:
    folder = save_modal_model(tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:99])
    with pytest.raises(BrokenModel, match="Copy the whole folder again"):
        load_model(folder)
