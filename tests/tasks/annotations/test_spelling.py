"""One name in several spellings is one name, and a name of another meaning is another."""

import unicodedata

import pyarrow as pa
import pytest

from tasks.annotations.spelling import Names, fold


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat", " cat"),
        ("ice cream", "Ice\u00a0 cream"),
        ("Café", unicodedata.normalize("NFD", "café")),
        ("STRASSE", "straße"),
        ("\ufeffcat", "ca\u200bt"),
        ("cat", "\u200fcat\u200e"),
        ("cat", "\uff23\uff21\uff34"),
        ("fish", "\ufb01sh"),
        ("KED\u0130", "kedi"),
        ("Ångström", "A\u030angstro\u0308m"),
    ],
)
def test_the_same_name(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ice cream", "icecream"),
        ("C", "C++"),
        ("a.b", "aXb"),
        ("sea_lion", "sea lion"),
        ("m\u00b2", "m2"),
        ("\u211d", "R"),
        ("\u2460", "1"),
    ],
)
def test_other_names(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_labels_find_their_class() -> None:
    names = Names(("Cat", "C++ (v.2)", "cafe\u0301", "[a-z]*", "../up", "Dog", "dog"))
    written = ("cat", "c++ (V.2)", "CAFÉ", "[A-Z]*", "../up ", "dog", "DOG", "abc")
    found = ("Cat", "C++ (v.2)", "cafe\u0301", "[a-z]*", "../up", "dog", None, None)
    assert tuple(map(names.find, written)) == found
    column = pa.chunked_array([[*written, None], ["cat"]], pa.string())
    assert names.find_all(column).to_pylist() == [*found, None, "Cat"]
