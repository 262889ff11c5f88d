"""A language model that nobody names, or another one, is told before anything slow is imported."""

import sys
from pathlib import Path

import pytest

from flows import cli
from tasks.deploy.language import check_language, named
from tasks.specs import InputError, RuntimeSpec
from tests.worlds.classifier import save_tiny_classifier
from tests.worlds.commands import ran
from tests.worlds.libra_model import save_libra_model, write_language


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without its language model, that language model, and one of other sizes."""
    place = tmp_path_factory.mktemp("place")
    save_libra_model(place / "model", write_language(place / "llm"))
    write_language(place / "larger", num_hidden_layers=3)
    return place


REFUSALS = {
    "": "does not hold it; COFT_LLM has to name its folder",
    "--llm nowhere": "nowhere: expected a language model in transformers' layout",
    "--llm larger": "larger: expected the folder of the language model local-dir:tiny",
}


def test_what_is_refused_waits_for_nothing(place: Path) -> None:
    commands = [f"serve --model model --workspace new {words}".split() for words in REFUSALS]
    for result, wanted in zip(ran(commands, place, COFT_LLM=""), REFUSALS.values(), strict=True):
        assert result["code"] == cli.BAD_INPUT
        assert wanted in str(result["said"])
        assert result["loaded"] == []
    (result,) = ran([commands[0]], place, COFT_LLM="larger")
    assert "found num_hidden_layers 3, not 2" in str(result["said"])


def test_what_is_right_or_of_another_kind_passes(place: Path, tmp_path: Path) -> None:
    runtime = RuntimeSpec(workspace=str(tmp_path / "work"))
    assert named(str(place / "llm")) == place / "llm"
    check_language(str(place / "model"), str(place / "llm"), runtime)
    check_language(str(save_tiny_classifier(tmp_path)), None, runtime)
    held = save_libra_model(tmp_path / "held", place / "llm", included=True)
    check_language(str(held), None, runtime)


def test_a_package_that_is_missing_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("clipcore.libra.source", "clipcore.libra.captions"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"needs the package tokenizers; .* 'coft\[libra\]'"):
        check_language(str(place / "model"), str(place / "llm"), RuntimeSpec(workspace="w"))
