"""A tiny LLaMA, and the real one that `make llm` installs, converted once."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipcore.libra import gguf_file
from clipcore.libra.language import Language, load
from tests.worlds.libra import LLM_FOLDER, tiny_language


@pytest.fixture(scope="session")
def language(tmp_path_factory: pytest.TempPathFactory) -> Language:
    """Return two random layers; no test changes them."""
    return tiny_language(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return SmolLM2-135M as a folder: half a gigabyte, which does not stay."""
    folder = tmp_path_factory.mktemp("llm") / "smollm2"
    gguf_file.convert(LLM_FOLDER / "model.gguf", folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def smol_language(smollm2: Path) -> Language:
    """Return that model; no test changes it."""
    return load(smollm2)
