"""Rows of a request: images and embeddings side by side, and what is said of those that are bad."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clipcore.harmony.bundle import load_model, save_model
from clipcore.harmony.model import COLUMNS, HarmonyModel
from clipcore.harmony.state import predict
from clipcore.image_files import MAX_PIXELS
from clipcore.images import read_pixels
from clipcore.rows import Allowed, answered
from tests.worlds.classifier import CONFIG, PREPROCESS
from tests.worlds.images import encoded_image
from tests.worlds.modal_model import modal_state, save_modal_model, sounds, tower
from tests.worlds.modalities import CLASSES

IMAGES = [encoded_image(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HarmonyModel:
    return load_model(save_modal_model(tmp_path_factory.mktemp("model")))


def test_rows_are_answered_as_the_state_predicts(model: HarmonyModel) -> None:
    heard = sounds(3)
    rows: list[dict[str, Any]] = [{"embedding": one.tolist()} for one in heard]
    rows.insert(1, {"image": IMAGES[0]})
    rows.append({"image": IMAGES[1], "modality": "photo", "embedding": None})
    found = answered(model, rows, 0)
    assert [row["modality"] for row in found] == ["sound", "photo", "sound", "sound", "photo"]
    assert {row["error"] for row in found} == {None}
    said = predict(model.state, heard)
    pixels = torch.from_numpy(
        np.stack([read_pixels(data, PREPROCESS, max_pixels=MAX_PIXELS) for data in IMAGES])
    )
    seen = predict(model.state, tower()(pixels), "photo")
    expected = torch.cat([said.probabilities, seen.probabilities])[[0, 3, 1, 2, 4]]
    for row, probabilities in zip(found, expected, strict=True):
        by_class = [row["probabilities"][name] for name in CLASSES]  # type: ignore[index]
        assert by_class == pytest.approx(probabilities.tolist(), abs=5e-3)
        assert row["label"] == CLASSES[int(probabilities.argmax())]
    assert [row["modality_score"] for row in found] == pytest.approx([1.0] * 5)


def test_who_says_the_modality_is_believed(model: HarmonyModel) -> None:
    photo = modal_state().modality("photo").likeness.mean.tolist()
    (row,) = answered(model, [{"embedding": photo, "modality": "photo"}], 1)
    assert (row["modality"], row["modality_score"]) == ("photo", 1.0)
    assert len(row["probabilities"]) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"embedding": [1.0] * 5}, "known width (photo 16, sound 12), got 5"),
        ({"embedding": [1.0] * 16, "modality": "sound"}, "known width (sound 12), got 16"),
        ({"embedding": [1.0] * 11 + [math.nan]}, "list of finite numbers"),
        ({"embedding": ["a"] * 12}, "list of finite numbers"),
        ({"embedding": [[1.0] * 12]}, "list of finite numbers"),
        ({"embedding": 3}, "list of finite numbers"),
        ({"image": IMAGES[0], "modality": "smell"}, "learned (photo, sound), got smell"),
        ({"image": IMAGES[0], "modality": "sound"}, "sound was not learned from images"),
        ({"image": b"no image"}, "not-an-image"),
        ({"embedding": math.nan, "image": None}, "expected an image file"),
    ],
)
def test_a_bad_row_is_told_and_costs_no_other(
    model: HarmonyModel, row: dict[str, Any], message: str
) -> None:
    bad, good = answered(model, [row, {"embedding": sounds(1)[0].tolist()}], 0)
    assert message in str(bad["error"])
    assert {bad[name] for name in COLUMNS if name != "error"} == {None}
    assert good["modality"] == "sound"


def test_images_of_different_towers_need_a_modality(tmp_path: Path) -> None:
    state = modal_state()
    towers = [(tower(seed), CONFIG, {}) for seed in (0, 1)]
    save_model(tmp_path, state, towers, {"photo": 0, "sound": 1}, {})
    model = load_model(tmp_path)
    assert "different towers here; one of photo, sound" in str(
        model.read({"image": IMAGES[0]}, Allowed())
    )
    assert not isinstance(model.read({"image": IMAGES[0], "modality": "photo"}, Allowed()), str)


def test_without_images_an_embedding_is_needed(tmp_path: Path) -> None:
    save_model(tmp_path, modal_state(), [], {}, {})
    said = load_model(tmp_path).read({"image": IMAGES[0]}, Allowed())
    assert said == "expected an `embedding`: no modality of this model was learned from images"
