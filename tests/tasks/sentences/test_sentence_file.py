"""A person's file of class sentences: read, or refused in one sentence."""

import json
from pathlib import Path

import pytest

from tasks.sentences.record import Record, Weighed
from tasks.sentences.sentence_file import BadSentences, read_record_of, read_sentence_file

CLASSES = ["cat", "Sea lion"]
TEMPLATES = ["a {}.", "the {}!"]


def put(folder: Path, content: object) -> str:
    path = folder / "own.json"
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(data)
    return str(path)


def test_sentences_are_used_as_they_are_and_names_in_the_templates(tmp_path: Path) -> None:
    uri = put(tmp_path, {"CAT": ["tabby", "a cat that sleeps.", "tabby", 3], "dog": ["hound"]})
    found = read_sentence_file(uri, CLASSES, TEMPLATES, "--from")
    assert found.own == {"cat": ("a tabby.", "the tabby!", "a cat that sleeps.")}
    assert found.dropped == {"repeated": 1, "malformed": 1}
    plain = {"cat": ("a cat.",), "Sea lion": ("a Sea lion.",)}
    assert found.complete(plain)["Sea lion"] == ("a Sea lion.",)
    assert read_record_of(uri, "--from") is None


def test_what_coft_wrote_is_read_as_it_is(tmp_path: Path) -> None:
    row = Weighed(
        name="plain", mutual_information=0.5, least_share=1, num_classes=2, num_sentences=2
    )
    sentences = {"cat": ("cat", "a {} [cat]"), "sea lion": ("a photo of a sea lion",), "dog": ()}
    record = Record(
        chosen="file", why="because", backbone="b", candidates=(row,), sentences=sentences
    )
    uri = put(tmp_path, record.model_dump(mode="json"))
    found = read_sentence_file(uri, CLASSES, TEMPLATES, "--templates")
    assert found.own == {"cat": ("cat", "a {} [cat]"), "Sea lion": ("a photo of a sea lion",)}
    del sentences["dog"]
    assert read_record_of(uri, "--templates") == record.model_copy(update={"sentences": sentences})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"cat: tabby", "expected JSON like"),
        (b"\xff\xd8\xff\xe0", "expected JSON like"),
        (b"[" * 100_000, "expected JSON like"),
        (["cat"], "got a list"),
        ({}, "got nothing"),
        ({"dog": ["hound"]}, "got 'dog'"),
        ({"cat": []}, "about the classes of this run"),
        ({"cat": ["{}", "<b>"]}, "about the classes of this run"),
        ({"format": "coft class sentences 1", "chosen": 3}, "run coft templates again"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, content: object, expected: str) -> None:
    with pytest.raises(BadSentences, match=r"^--from .*own\.json: ") as refused:
        read_sentence_file(put(tmp_path, content), CLASSES, TEMPLATES, "--from")
    assert expected in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSentences, match="no such file"):
        read_sentence_file(str(tmp_path / "none.json"), CLASSES, TEMPLATES, "--from")
