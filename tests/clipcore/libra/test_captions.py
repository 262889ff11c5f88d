"""Sentences about classes, in the tokens of a language model, and names that it cannot write."""

from pathlib import Path

import pytest

from clipcore.libra.captions import (
    TEMPLATE,
    TOKENIZER,
    UnwritableName,
    Vocabulary,
    load_vocabulary,
    write_captions,
)
from clipcore.libra.shape import UnsupportedLanguage
from tests.worlds.libra import CLASSES, NEEDS_LLM, byte_tokenizer, letter_tokenizer, vocabulary

NAMES = ["panda", "panda bear", "cat", "café au lait", "St. Bernard", "3D-printer", "猫"]


# --- sentences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [TEMPLATE, "The {}.", "A {}, photographed.", "It is a {} !"])
def test_prompt_and_ending_are_the_sentence(template: str) -> None:
    words = vocabulary()
    captions = write_captions(words, NAMES, template)
    assert len(captions.endings) == len(NAMES)
    for name, ending in zip(NAMES, captions.endings, strict=True):
        assert words.decode([*captions.prompt, *ending]) == template.replace("{}", name)
        assert [*captions.prompt, *ending] == words.encode(template.replace("{}", name))
    assert words.decode(captions.prompt) == template.partition("{}")[0].rstrip()
    assert {ending[-1] for ending in captions.endings} == set(captions.stops)
    assert len(captions.stops) == 1


def test_a_name_has_the_tokens_that_it_has_inside_of_a_text() -> None:
    words = Vocabulary(byte_tokenizer("Ġpanda"))
    assert len(words.encode("panda.")) == 6
    captions = write_captions(words, ["panda"], "The {}.")
    assert len(captions.endings[0]) == 2  # with the space before it, and the stop
    assert words.decode(captions.endings[0]) == " panda."


def test_a_mark_that_grows_together_with_a_name_ends_a_sentence_too() -> None:
    words = Vocabulary(byte_tokenizer("Ġpanda", "!."))
    captions = write_captions(words, ["panda", "hey!"], "The {}.")
    assert {words.decode([stop]) for stop in captions.stops} == {"!.", "."}


def test_a_token_at_the_start_of_texts_is_no_part_of_a_sentence() -> None:
    plain, started = vocabulary(), vocabulary("<s>")
    assert plain.start == ()
    assert len(started.start) == 1
    assert write_captions(plain, CLASSES) == write_captions(started, CLASSES)
    assert started.start[0] not in write_captions(started, CLASSES).prompt


def test_the_order_of_classes_is_the_order_of_endings() -> None:
    one, two = (write_captions(vocabulary(), names) for names in (CLASSES, CLASSES[::-1]))
    assert one.endings == two.endings[::-1]


# --- what cannot be written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    ["A photo.", "{}.", " {}.", "A photo of the {}", "A photo of the {} ", "A {} and a {}.", ""],
)
def test_a_template_needs_words_one_place_for_the_name_and_a_mark(template: str) -> None:
    with pytest.raises(UnwritableName, match=r"one \{\} for the name, and a mark") as error:
        write_captions(vocabulary(), CLASSES, template)
    assert repr(template) in str(error.value)
    assert repr(TEMPLATE) in str(error.value)


@pytest.mark.parametrize(
    "names", [["St", "cat", "St. Bernard"], ["St. Bernard", "St"], ["a", "a.b"]]
)
def test_a_name_that_ends_where_another_one_goes_on_is_refused(names: list[str]) -> None:
    with pytest.raises(UnwritableName, match="rename one") as error:
        write_captions(vocabulary(), names, "The {}.")
    assert repr(names[0]) in str(error.value)
    assert repr(names[-1]) in str(error.value)


@pytest.mark.parametrize("name", ["café", "猫", "9"])
def test_letters_that_a_tokenizer_does_not_know_are_refused(name: str) -> None:
    words = Vocabulary(letter_tokenizer())
    assert words.decode(write_captions(words, ["cat"]).endings[0]) == "cat."
    with pytest.raises(UnwritableName, match="cannot write") as error:
        write_captions(words, ["cat", name])
    assert name in str(error.value)
    assert "it would say" in str(error.value)


def test_a_name_that_is_a_token_of_the_models_own_is_refused() -> None:
    with pytest.raises(UnwritableName, match="</s>"):
        write_captions(vocabulary(), ["cat", "</s>"])


def test_words_that_grow_together_with_a_name_are_refused() -> None:
    words = Vocabulary(byte_tokenizer("Them"))
    write_captions(words, ["m"], "The {}.")
    with pytest.raises(UnwritableName, match="choose other words before the name"):
        write_captions(words, ["m"], "The{}.")


def test_a_prompt_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(UnwritableName, match="Éa"):
        write_captions(Vocabulary(letter_tokenizer()), ["cat"], "Éa {}.")


# --- files ----------------------------------------------------------------------------------------


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLanguage, match=r"expected tokenizer\.json.*AutoTokenizer"):
        load_vocabulary(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"model": {"type": "Unheard"}}'])
def test_a_tokenizer_that_cannot_be_read_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / TOKENIZER).write_text(text)
    with pytest.raises(UnsupportedLanguage, match="cannot be read"):
        load_vocabulary(tmp_path)


def test_a_tokenizer_is_read_as_it_was_written(tmp_path: Path) -> None:
    byte_tokenizer("Ġpanda", start="<s>").save(str(tmp_path / TOKENIZER))
    found, expected = load_vocabulary(tmp_path), Vocabulary(byte_tokenizer("Ġpanda", start="<s>"))
    assert (found.start, len(found)) == (expected.start, len(expected))
    assert found.encode("The panda.") == expected.encode("The panda.")
    assert found.decode(found.encode("The panda.")) == "The panda."


class TestSmolLM2:
    pytestmark = NEEDS_LLM

    def test_it_writes_any_name(self, smollm2: Path) -> None:
        words = load_vocabulary(smollm2)
        assert words.start == ()
        captions = write_captions(words, NAMES)
        assert words.decode(captions.prompt) == "A photo of the"
        assert words.decode(captions.endings[0]) == " panda."
        assert words.decode(captions.stops) == "."


def test_half_a_character_is_refused() -> None:
    with pytest.raises(UnwritableName, match="no text that can be written in UTF-8"):
        vocabulary().encode("a \ud800")
