"""Synonyms of one sense, with the name itself first."""

from tasks.sentences.synonyms import look_up, of_senses
from tasks.sentences.wordnet.nouns import Sense


def test_names_that_are_no_nouns_have_no_senses() -> None:
    known = look_up(["monarch", "xyzzy"])
    assert list(known) == ["monarch"]
    assert len(known["monarch"]) == 2


def test_the_words_of_a_sense_stand_in_the_templates_and_the_name_once() -> None:
    senses = {"sea_lion": Sense(("Sea lion", "seal"), "animal"), "deer": Sense(("deer",), "beast")}
    assert of_senses(senses, ["a {}.", "{}"]).own == {
        "sea_lion": ("a sea lion.", "sea lion", "a seal.", "seal"),
    }
