"""A GGUF file becomes a folder with the same model and the same tokenizer, or is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from clipcore.libra.captions import load_vocabulary
from clipcore.libra.gguf_file import convert
from clipcore.libra.language import Language, load
from clipcore.libra.shape import CONFIG, WEIGHTS, UnsupportedLanguage
from tests.worlds.libra import NEEDS_LLM, byte_tokenizer, write_gguf

TOKENS = ("Ġthe", "Ġpanda")
TEXT = "A photo of the panda bear. Café, 猫!"


@pytest.fixture(scope="module")
def file(language: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a GGUF file that no test changes."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", language, *TOKENS)


@pytest.fixture(scope="module")
def folder(file: Path) -> Path:
    """Return what it was converted to."""
    convert(file, file.parent / "new" / "folder")
    return file.parent / "new" / "folder"


def test_the_model_is_the_same(folder: Path, language: Language) -> None:
    found = load(folder)
    assert found.shape == replace(language.shape, rms_norm_eps=found.shape.rms_norm_eps)
    assert found.shape.rms_norm_eps == pytest.approx(1e-5, rel=1e-6)  # in 32 bits there
    assert found.sha256() == language.sha256()
    ids = torch.arange(40).view(2, 20)
    torch.testing.assert_close(found(ids), language(ids), atol=1e-5, rtol=0)


def test_the_tokenizer_is_the_same(folder: Path) -> None:
    found, expected = load_vocabulary(folder), byte_tokenizer(*TOKENS)
    assert found.encode(TEXT) == expected.encode(TEXT, add_special_tokens=False).ids
    assert found.decode(found.encode(TEXT)) == TEXT


def test_weights_are_fp32_and_tied_ones_are_written_once(folder: Path) -> None:
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        names = set(weights.keys())
        assert all(weights.get_tensor(name).dtype == torch.float32 for name in names)
    assert "lm_head.weight" not in names
    assert "model.embed_tokens.weight" in names
    config = json.loads((folder / CONFIG).read_text())
    assert config["model_type"] == "llama"
    assert "quantization_config" not in config


@pytest.mark.parametrize("cut", [24, 80, 200, 3000, 9000, -1000, -10])
def test_a_truncated_file_is_refused_and_nothing_is_written(
    cut: int, file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UnsupportedLanguage, match=r"cut\.gguf"):
        convert(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_another_architecture_is_refused_by_its_first_bytes(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(file.read_bytes().replace(b"llama", b"gemma", 1)[:100])
    with pytest.raises(UnsupportedLanguage, match="architecture 'gemma'; coft runs 'llama'"):
        convert(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


class TestSmolLM2:
    pytestmark = NEEDS_LLM

    def test_it_speaks_english(self, smollm2: Path, smol_language: Language) -> None:
        words = load_vocabulary(smollm2)
        ids = words.encode("The capital of France is")
        with torch.no_grad():
            for _ in range(2):
                ids.append(int(smol_language(torch.tensor([ids]))[0, -1].argmax()))
        assert words.decode(ids).startswith("The capital of France is Paris")
