"""The packed nouns: their size, their licence beside them, and some entries."""

import pytest

from tasks.sentences.wordnet.nouns import FILE, Sense, senses


def test_they_are_small_and_their_licence_is_beside_them() -> None:
    assert 100_000 < FILE.stat().st_size < 1_000_000
    licence = FILE.with_name("LICENSE").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in licence
    assert "provided that you agree to comply with" in licence


def test_senses_come_by_their_frequency_with_all_words_and_a_hypernym() -> None:
    ruler, butterfly = senses("monarch")
    assert ruler == Sense(("sovereign", "crowned head", "monarch"), "ruler")
    assert butterfly.synonyms[:2] == ("monarch", "monarch butterfly")
    assert butterfly.hypernym == "danaid"
    assert senses("deer") == [Sense(("deer", "cervid"), "ruminant")]
    assert [sense.hypernym for sense in senses("slug")][:2] == ["projectile", "mass unit"]
    assert senses("entity") == [Sense(("entity",))]


@pytest.mark.parametrize("name", ["German shepherd", "german_shepherd", "GERMAN-Shepherd"])
def test_a_name_is_found_in_any_spelling(name: str) -> None:
    assert "alsatian" in senses(name)[0].synonyms


@pytest.mark.parametrize(
    ("plural", "single"),
    [
        ("dogs", "dog"),
        ("Foxes", "fox"),
        ("butterflies", "butterfly"),
        ("fire_engines", "fire engine"),
    ],
)
def test_a_plural_has_the_senses_of_its_noun(plural: str, single: str) -> None:
    assert senses(plural) == senses(single)


def test_a_word_that_looks_like_a_plural_has_its_own_senses_first() -> None:
    place, footwear = senses("shoes")[:2]
    assert place.synonyms == ("place", "shoes")
    assert footwear == senses("shoe")[0]


@pytest.mark.parametrize("name", ["", "xyzzy", "quickly", "a photo of a cat"])
def test_what_is_no_noun_has_no_sense(name: str) -> None:
    assert senses(name) == []
