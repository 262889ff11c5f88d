"""The language model of a model that is served: named by somebody, and told from another one."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from clipcore.libra.captions import TOKENIZER, load_vocabulary, write_captions
from clipcore.libra.shape import CONFIG, UnsupportedLanguage, read_shape
from clipcore.libra.source import (
    LANGUAGE,
    LLM,
    find_source,
    language_from_environment,
    read_sentences,
    sentence_tokens,
)
from tests.worlds.libra_model import CLASSES, TEMPLATE, write_language


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a description says of a language model; it went through JSON."""
    folder = write_language(tmp_path_factory.mktemp("language"))
    vocabulary = load_vocabulary(folder)
    tokens = sentence_tokens(vocabulary, write_captions(vocabulary, CLASSES, TEMPLATE))
    named = {"name": "local-dir:tiny", "sha256": "0123456789abcdef" * 4, "included": False}
    written: dict[str, Any] = json.loads(
        json.dumps({**named, "shape": asdict(read_shape(folder)), "tokens": tokens})
    )
    return written


def test_sentences_are_read_as_they_were_learned(known: dict[str, Any], tmp_path: Path) -> None:
    source = find_source(tmp_path / "model", known, write_language(tmp_path / "language"))
    vocabulary, captions = read_sentences(source, CLASSES, TEMPLATE)
    assert sentence_tokens(vocabulary, captions) == known["tokens"]


def test_what_a_model_holds_is_taken(known: dict[str, Any], tmp_path: Path) -> None:
    found = find_source(tmp_path, {**known, "included": True}, tmp_path / "another")
    assert found.folder == tmp_path / LANGUAGE
    assert "Copy the whole model again" in str(found.refused("found nothing"))


def _rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: _rewrite(path, num_hidden_layers=3), "found num_hidden_layers 3, not 2"),
        (lambda path: _rewrite(path, rope_theta=5.0), r"found rope \{'rope_theta': 5.0\}, not"),
        (lambda path: _rewrite(path, model_type="gemma"), "architecture 'gemma'; coft runs 'll"),
        (lambda path: write_language(path, tokens=("Ġcat",)), "it writes the sentences differen"),
        (lambda path: (path / TOKENIZER).unlink(), r"expected tokenizer\.json beside the weights"),
        (lambda path: (path / CONFIG).unlink(), r"config\.json cannot be read"),
    ],
)
def test_another_language_model_is_told_by_its_small_files(
    known: dict[str, Any], tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    folder = write_language(tmp_path)
    change(folder)
    with pytest.raises(UnsupportedLanguage, match=message):
        read_sentences(find_source(tmp_path, known, folder), CLASSES, TEMPLATE)


def test_a_refusal_says_what_was_expected_and_what_to_do(
    known: dict[str, Any], tmp_path: Path
) -> None:
    said = str(find_source(tmp_path, known, tmp_path / "llm").refused("found another"))
    assert "llm: expected the folder of the language model local-dir:tiny, whose weights" in said
    assert said.endswith("the hash 0123456789ab; found another. Name that one's in COFT_LLM.")


def test_somebody_has_to_name_it(
    known: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LLM, raising=False)
    with pytest.raises(UnsupportedLanguage, match="the hash 0123456789ab, and does not hold it"):
        find_source(tmp_path, known, language_from_environment())
    monkeypatch.setenv(LLM, "models/tiny")
    found = find_source(tmp_path, known, language_from_environment())
    assert found.folder == Path("models/tiny")
