"""What is asked, and what of an answer is used."""

import json

import pytest

from tasks.sentences.question import SENTENCES, body, question, sentences_in

CLASSES = ["sea_lion", "lion", "cat"]


def test_the_request_names_the_class_and_the_form_of_the_answer() -> None:
    request = body("m", 'sea_lion "x"')
    assert request["model"] == "m"
    assert 'sea lion "x"' in request["messages"][-1]["content"]
    schema = request["response_format"]["json_schema"]["schema"]
    items = schema["properties"]["sentences"]
    assert (items["minItems"], items["maxItems"]) == (SENTENCES, SENTENCES)
    example = json.loads(request["messages"][2]["content"])
    assert len(example["sentences"]) == SENTENCES
    assert sentences_in(json.dumps(example), "red fox", CLASSES)[0] == example["sentences"]
    assert "{class}" in question("{class}")


def test_good_sentences_are_used_and_the_others_counted() -> None:
    said = ["a sea lion on a rock.", "A sea lion on a rock.", "a lion.", "a seal.", "", 3]
    kept, dropped = sentences_in(json.dumps({"sentences": said}), "sea_lion", CLASSES)
    assert kept == ["a sea lion on a rock."]
    assert dropped == {"repeated": 1, "off class": 2, "empty": 1, "malformed": 1}


@pytest.mark.parametrize(
    "answer",
    ["", "Sure! Here are 5 captions", "[1, 2", "[]", '"x"', "null", '{"captions": []}', "[" * 9999],
)
def test_an_answer_in_another_form_is_malformed(answer: str) -> None:
    assert sentences_in(answer, "cat", CLASSES) == ([], {"malformed": 1})
