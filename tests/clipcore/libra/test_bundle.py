"""A vision system, written, read back bit for bit, and refused beside another language model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from clipcore.classifier import load_classifier
from clipcore.description import DESCRIPTION, BrokenModel, kind_of
from clipcore.libra.bundle import KIND, load_model, load_tower, save_model
from clipcore.libra.captions import TOKENIZER, UnwritableName, load_vocabulary
from clipcore.libra.language import load
from clipcore.libra.shape import CONFIG, WEIGHTS, UnsupportedLanguage
from tests.worlds.classifier import save_tiny_classifier
from tests.worlds.libra import laid_out
from tests.worlds.libra_model import (
    CLASSES,
    TEMPLATE,
    save_libra_model,
    seer,
    trained_libra,
    write_language,
)
from tests.worlds.pickles import is_pickle
from tests.worlds.tensors import random_pixels


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language(tmp_path_factory.mktemp("language"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, language: Path) -> Path:
    return save_libra_model(tmp_path_factory.mktemp("model"), language)


def test_what_is_read_back_is_what_was_written(folder: Path, language: Path) -> None:
    model, expected = load_model(folder, language=language), trained_libra(language)
    tensors = model.libra.tensors()
    assert tensors.keys() == expected.tensors().keys()
    assert all(torch.equal(tensors[name], value) for name, value in expected.tensors().items())
    assert model.libra.design == expected.design
    assert model.wording.classes == CLASSES
    pixels = random_pixels(3, seer().visual.preprocess.size)
    assert torch.equal(load_tower(folder)(pixels), seer().visual(pixels))
    names = {"weights.safetensors", "tower-1.safetensors", DESCRIPTION}
    assert {path.name for path in folder.iterdir()} == names
    assert not any(is_pickle(path.read_bytes()) for path in folder.iterdir())


@pytest.mark.parametrize("written", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("computed", ["fp32", "autocast", "bf16"])
def test_texts_have_the_logits_of_the_language_model(
    tmp_path: Path, written: torch.dtype, computed: str
) -> None:
    language = write_language(tmp_path / "language", dtype=written)
    model = load_model(save_libra_model(tmp_path / "model", language), language=language)
    texts, base = laid_out("tttttt", "tttttt"), load(language)
    if computed == "bf16":
        model.libra.to(torch.bfloat16)
        base.to(torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=computed == "autocast"):
        logits = model.libra.text_logits(model.libra(texts))
        assert torch.equal(logits, base(texts.ids))


def _other_weights(language: Path) -> None:
    write_language(language, seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_weights, r"local-dir:tiny, whose weights .*; found \w{12}\. Name that one's in C"),
        (lambda path: write_language(path, num_hidden_layers=3), "found num_hidden_layers 3, not"),
        (lambda path: (path / WEIGHTS).unlink(), "cannot be read: No such file"),
    ],
)
def test_another_language_model_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    language = write_language(tmp_path)
    change(language)
    with pytest.raises(UnsupportedLanguage, match=message):
        load_model(folder, language=language)


def test_a_language_model_has_to_be_named(folder: Path) -> None:
    with pytest.raises(UnsupportedLanguage, match="does not hold it; COFT_LLM has to name its"):
        load_model(folder)


def test_a_model_that_holds_its_language_model_needs_no_other(tmp_path: Path) -> None:
    language = write_language(tmp_path / "language", eos_token_id=5)
    (language / "notes.txt").write_text("none of the model's")
    folder = save_libra_model(tmp_path / "model", language, included=True)
    expected = load(language).sha256()
    for path in language.iterdir():
        path.unlink()
    model = load_model(folder, language=tmp_path / "nowhere")
    assert model.libra.language.sha256() == expected
    assert model.wording.ends == (5,)
    names = {path.name for path in (folder / "language").iterdir()}
    assert names == {CONFIG, TOKENIZER, WEIGHTS}
    _other_weights(folder / "language")
    with pytest.raises(UnsupportedLanguage, match="Copy the whole model again"):
        load_model(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "tower-1.safetensors"])
def test_a_folder_that_is_not_complete_is_refused(
    tmp_path: Path, language: Path, name: str
) -> None:
    folder = save_libra_model(tmp_path, language)
    (folder / name).write_bytes((folder / name).read_bytes()[:99])
    with pytest.raises(BrokenModel, match="Copy the whole folder again"):
        load_model(folder, language=language)


def test_a_model_of_another_kind_is_refused(folder: Path, tmp_path: Path, language: Path) -> None:
    images = save_tiny_classifier(tmp_path)
    assert kind_of(folder) == KIND
    with pytest.raises(BrokenModel, match="of the kind classifier, got 'libra'"):
        load_classifier(folder)
    with pytest.raises(BrokenModel, match="of the kind libra, got 'classifier'"):
        load_model(images, language=language)


def test_a_model_is_made_where_its_sentences_can_be_written(tmp_path: Path, language: Path) -> None:
    """What is refused is refused before the description is there, which marks a whole folder."""
    libra = trained_libra(language)
    with pytest.raises(UnwritableName, match="cannot write 'A photo of the <s>"):
        save_model(
            tmp_path,
            libra,
            classes=("cat", "<s>"),
            template=TEMPLATE,
            vocabulary=load_vocabulary(language),
            tower=(seer().visual, seer().config, {}),
            language={"name": "tiny", "sha256": ""},
            facts={},
        )
    assert not (tmp_path / DESCRIPTION).exists()
