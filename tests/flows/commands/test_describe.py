"""`coft describe` by the command line: what cannot be used is told before anything begins."""

import struct
from pathlib import Path

import pytest

from tests.flows.commands.conftest import Refused
from tests.worlds.libra import letter_tokenizer, write_llama
from tests.worlds.libra_model import write_language


def first_bytes(architecture: str) -> bytes:
    """Return how a GGUF file of an architecture begins."""
    key = b"general.architecture"
    field = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(architecture))
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + field + architecture.encode()


@pytest.fixture
def llms(tmp_path: Path) -> Path:
    """Return a folder with language models, one of which can be used."""
    folder = tmp_path / "llms"
    write_language(folder / "good")
    write_llama(folder / "mute")
    write_llama(folder / "letters")
    letter_tokenizer().save(str(folder / "letters" / "tokenizer.json"))
    write_language(folder / "other")
    config = (folder / "other" / "config.json").read_text().replace('"llama"', '"gemma3"')
    (folder / "other" / "config.json").write_text(config)
    (folder / "empty").mkdir()
    (folder / "text.gguf").write_text("no model at all")
    for name in ("gemma3", "llama"):
        (folder / f"{name}.gguf").write_bytes(first_bytes(name))
    return folder


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--llm", "LLMS/good"], "expected gguf:PATH, local-dir:PATH"),
        (["--llm", "local-dir:LLMS/none"], "config.json cannot be read"),
        (["--llm", "local-dir:LLMS/empty"], "config.json cannot be read"),
        (["--llm", "local-dir:LLMS/mute"], "expected tokenizer.json beside the weights"),
        (["--llm", "local-dir:LLMS/other"], "of the architecture 'gemma3'; coft runs 'llama'"),
        (["--llm", "gguf:LLMS/none.gguf"], "No such file or directory"),
        (["--llm", "gguf:LLMS/text.gguf"], "expected a GGUF file"),
        (["--llm", "gguf:LLMS/gemma3.gguf"], "of the architecture 'gemma3'; coft runs 'llama'"),
        (["--llm", "gguf:LLMS/llama.gguf", "--llm-sha256", "0" * 64], "expected a file with the"),
        (["--llm", "local-dir:LLMS/good", "--llm-sha256", "1"], "sha256: String should match"),
        (["--llm", "local-dir:LLMS/good", "--template", "A photo."], "one {} for the name"),
        (["--llm", "local-dir:LLMS/good", "--template", "The {}"], "one {} for the name"),
        (["--llm", "gguf:LLMS/llama.gguf", "--template", "The {}"], "one {} for the name"),
        (["--llm", "local-dir:LLMS/letters", "--classes", "cat,日本"], "cannot write"),
        (["--llm", "local-dir:LLMS/good", "--classes", "cat,dog", "--vision.side", "0"], "side"),
        (["--llm", "local-dir:LLMS/good", "--backbone", "ViT-X"], "ViT-X"),
        (["--llm", "local-dir:LLMS/good", "--model", "models:/none@champion"], "no model 'none'"),
        (["--llm", "local-dir:LLMS/good", "--register", "a/b"], "'a/b'"),
    ],
)
def test_what_cannot_be_described_is_refused(
    words: list[str], expected: str, llms: Path, photos: Path, tmp_path: Path, refused: Refused
) -> None:
    words = [word.replace("LLMS", str(llms)) for word in words]
    if "--classes" not in words:
        words = [*words, "--classes", "cat,dog"]
    place = ["--workspace", str(tmp_path / "place"), "--images", str(photos)]
    assert expected in refused(["describe", *place, *words])
    assert not (tmp_path / "place").exists()
