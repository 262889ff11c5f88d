"""What others wrote: each thing that is wrong with a text has a reason, and the rest is kept."""

import pytest

from tasks.sentences.checking import LONGEST, MOST, Dropped, add_up, checked, is_sentence, on_class

GOOD = "a photo of a sea lion on a rock."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, Dropped.MALFORMED),
        (7, Dropped.MALFORMED),
        ({"text": GOOD}, Dropped.MALFORMED),
        ("", Dropped.EMPTY),
        (" ...\t", Dropped.EMPTY),
        ("\u200d\u3000", Dropped.EMPTY),
        ("\u200bcat", Dropped.CONTROL),
        ("A photo of a  SEA lion on a rock.", Dropped.REPEATED),
        ("very " * LONGEST, Dropped.TOO_LONG),
        ("a cat\x1b[31m", Dropped.CONTROL),
        ("a cat\u202egnp.exe", Dropped.CONTROL),
        ("a cat\nand a dog", Dropped.CONTROL),
        ("a {0.__class__} cat", Dropped.HOSTILE),
        ("a {} cat", Dropped.HOSTILE),
        ("<img src=x onerror=alert(1)> cat", Dropped.HOSTILE),
        ("a [cat](javascript:alert(1))", Dropped.HOSTILE),
        ("a cat; $(rm -rf ~)", Dropped.HOSTILE),
        ("a cat `id`", Dropped.HOSTILE),
        ("see https://cats.example/", Dropped.HOSTILE),
        ("..\\..\\cat", Dropped.HOSTILE),
    ],
)
def test_a_text_that_cannot_be_used_is_dropped_for_a_reason(text: object, reason: Dropped) -> None:
    kept, dropped = checked([GOOD, text])
    assert kept == [GOOD]
    assert dropped == {reason: 1}


@pytest.mark.parametrize("texts", ["a cat.", None, {"a": "cat"}, 3, b"cat"])
def test_what_is_no_list_of_texts_is_malformed(texts: object) -> None:
    assert checked(texts) == ([], {Dropped.MALFORMED: 1})


def test_common_signs_and_letters_of_all_scripts_stay() -> None:
    texts = [
        "Käfer, 50 % off (it's red & shiny)!",
        "一只猫。",
        "a cat/dog; 2nd-hand: “old”?",
        "نیم\u200cرخ.",
    ]
    assert checked([*texts, "  two   spaces. "]) == ([*texts, "two spaces."], {})


def test_of_too_many_the_first_are_kept() -> None:
    kept, dropped = checked([f"cat {n}" for n in range(MOST + 5)])
    assert (len(kept), kept[0], dropped) == (MOST, "cat 0", {Dropped.TOO_MANY: 5})


def test_a_mark_makes_a_sentence() -> None:
    assert is_sentence("a cat.")
    assert not is_sentence("tabby")


def test_a_sentence_names_its_class_and_no_other_one() -> None:
    classes = ["car", "sports car", "cat"]
    texts = ["a red Car.", "a CAR and a cat.", "a sports car.", "a carpet.", "cats in a car."]
    kept, dropped = on_class(texts, "car", classes)
    assert kept == ["a red Car.", "cats in a car."]
    assert dropped == {Dropped.OFF_CLASS: 3}
    kept, _ = on_class(texts, "sports car", classes)
    assert kept == ["a sports car."]
    assert on_class(["the sea-lion sleeps."], "sea_lion", ["sea_lion", "lion"])[0]
    assert on_class(["一只猫在睡觉。", "一只狗在睡觉。"], "猫", ["猫", "狗"])[0] == [
        "一只猫在睡觉。"
    ]


def test_reasons_add_up() -> None:
    assert add_up([{"a": 1}, {}, {"a": 2, "b": 1}]) == {"a": 3, "b": 1}
