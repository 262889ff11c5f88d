"""Rows of a request: an image and perhaps a prompt, and what is said of those that are bad."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clipcore.feature_maps import feature_map
from clipcore.image_files import MAX_PIXELS
from clipcore.images import read_pixels
from clipcore.inference import BATCH_ON_CPU
from clipcore.libra.bundle import load_model
from clipcore.libra.decode import ClassQuestion, Ending, Said, say
from clipcore.libra.served import COLUMNS, LibraModel
from clipcore.libra.speaker import Wording
from clipcore.rows import Allowed, answered
from tests.worlds.images import encoded_image
from tests.worlds.libra_model import CLASSES, SIDE, save_libra_model, seer, write_language

IMAGES = [encoded_image(seed) for seed in range(4)]
PROMPT = "This picture shows a"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LibraModel:
    folder = tmp_path_factory.mktemp("model")
    language = write_language(folder / "language")
    return load_model(save_libra_model(folder / "model", language), language=language)


def pixels_of(images: list[bytes]) -> Tensor:
    preprocess = seer().visual.preprocess
    read = [read_pixels(data, preprocess, max_pixels=MAX_PIXELS) for data in images]
    return torch.from_numpy(np.stack(read))


def maps(model: LibraModel, images: list[bytes]) -> Tensor:
    """Return what the language model sees."""
    return model.encoders[0](pixels_of(images)).float().unflatten(1, (SIDE * SIDE, -1))


def said_of(model: LibraModel, prompt: tuple[int, ...], images: list[bytes]) -> Said:
    captions, start = model.wording.captions, model.wording.vocabulary.start
    return say(model.libra, maps(model, images), prompt, Ending(captions.stops), start=start)


def test_images_are_seen_as_the_shards_of_a_pool_hold_them(model: LibraModel) -> None:
    tower, pixels = seer().visual, pixels_of(IMAGES)
    with torch.no_grad():
        expected = feature_map(tower, tower.to_input(pixels), side=SIDE)
    assert torch.allclose(maps(model, IMAGES), expected, atol=0.1)  # bf16 where it is fast


def test_images_are_answered_as_the_language_model_says(model: LibraModel) -> None:
    found = answered(model, [{"image": data} for data in IMAGES], 0)
    captions, vocabulary = model.wording.captions, model.wording.vocabulary
    ask = ClassQuestion(model.libra, captions, vocabulary.start)
    expected = ask(maps(model, IMAGES)).softmax(dim=1)
    said = said_of(model, captions.prompt, IMAGES)
    assert len({row["caption"] for row in found}) > 1
    for place, row in enumerate(found):
        assert set(row) == set(COLUMNS)
        by_class = [row["probabilities"][name] for name in CLASSES]  # type: ignore[index]
        assert by_class == pytest.approx(expected[place].tolist(), abs=1e-3)
        assert (row["label"], row["score"]) == (CLASSES[int(np.argmax(by_class))], max(by_class))
        whole = [*captions.prompt, *said.tokens[place]]
        assert row["caption"] == vocabulary.decode(whole).strip()
        assert str(row["caption"]).startswith("A photo of the")
        score = float(said.log_probabilities[place].exp())
        assert row["caption_score"] == pytest.approx(score, rel=1e-2)


def test_each_row_is_answered_under_its_own_prompt(model: LibraModel) -> None:
    """Rows are read in groups of one prompt, and come back in their order."""
    prompts = [PROMPT, None, "  It is a ", PROMPT, "", "None"]
    rows: list[dict[str, Any]] = [{"image": IMAGES[0], "prompt": prompt} for prompt in prompts]
    rows[3]["image"] = IMAGES[1]
    found = answered(model, rows, 0)
    begins = [PROMPT, "A photo of the", "It is a", PROMPT, "A photo of the", "A photo of the"]
    assert all(
        str(row["caption"]).startswith(begin) for row, begin in zip(found, begins, strict=True)
    )
    prompt = tuple(model.wording.vocabulary.encode(PROMPT))
    said = said_of(model, prompt, IMAGES[:2])
    for place, image in ((0, 0), (3, 1)):
        ending = model.wording.vocabulary.decode(said.tokens[image])
        assert found[place]["caption"] == (PROMPT + ending).strip()
    for row in found[1:3]:  # the class does not hang on the prompt
        assert row["probabilities"] == pytest.approx(found[0]["probabilities"], abs=5e-3)
    assert found[3]["probabilities"] != found[0]["probabilities"]


def test_an_answer_names_as_many_classes_as_were_asked_for(model: LibraModel) -> None:
    (row,) = answered(model, [{"image": IMAGES[0], "prompt": float("nan")}], 2)
    assert len(row["probabilities"]) == 2  # type: ignore[arg-type]


def test_a_sentence_ends_where_the_language_model_ends_a_text(model: LibraModel) -> None:
    first = said_of(model, model.wording.captions.prompt, IMAGES[:1]).tokens[0][0]
    own = model.wording
    wording = Wording(own.classes, own.vocabulary, own.captions, (first,))
    (row,) = answered(LibraModel(model.libra, seer().visual, wording), [{"image": IMAGES[0]}], 0)
    whole = own.vocabulary.decode([*own.captions.prompt, first])
    assert row["caption"] == whole.strip()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": b"no image"}, "not-an-image"),
        ({"prompt": PROMPT}, "expected an image file in column `image`"),
        ({"image": IMAGES[0], "prompt": "x" * 65}, "at most 64 tokens in column `prompt`, got 65"),
        ({"image": IMAGES[0], "prompt": "x" * 5000}, "tokens in column `prompt`, got 5000 char"),
        ({"image": IMAGES[0], "prompt": 3}, "expected the beginning of a sentence"),
        ({"image": IMAGES[0], "prompt": [PROMPT]}, "expected the beginning of a sentence"),
        ({"image": IMAGES[0], "prompt": "  "}, "expected the beginning of a sentence"),
        ({"image": IMAGES[0], "prompt": "<s> a"}, "column `prompt`: The language model's token"),
        ({"image": IMAGES[0], "prompt": "\ud800"}, "no text that can be written in UTF-8"),
    ],
)
def test_a_bad_row_is_told_and_costs_no_other(
    model: LibraModel, row: dict[str, Any], message: str
) -> None:
    bad, good = answered(model, [row, {"image": IMAGES[1]}], 0)
    assert message in str(bad["error"])
    assert {bad[name] for name in COLUMNS if name != "error"} == {None}
    assert good["error"] is None


def test_more_rows_than_fit_are_answered_in_pieces(model: LibraModel) -> None:
    read = [model.read({"image": data}, Allowed()) for data in IMAGES]
    items = [item for item in read * 9 if not isinstance(item, str)]
    found = model.find(items)
    assert len(found) == 36 > BATCH_ON_CPU
    for one, other in zip(found, list(found[:4]) * 9, strict=True):
        assert one.probabilities.tolist() == pytest.approx(other.probabilities, abs=5e-3)
