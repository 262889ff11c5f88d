"""Class sentences are chosen by the pool, once; labels depend on those that are used."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.label.zero_shot import label_zero_shot
from tasks.pool.task import open_task
from tasks.refs import EmbeddingsRef, ImagesRef, SentencesRef, TaskRef
from tasks.sentences.choice import choose_sentences
from tasks.sentences.given import given_sentences
from tasks.sentences.record import read_record
from tasks.specs import CoftSpec, SentencesSpec
from tests.worlds.embedding import Embedding
from tests.worlds.images import encoded_image
from tests.worlds.pools import tree

CLASSES = "monarch,deer,xyzzy"


@pytest.fixture
def made(place: Embedding) -> tuple[EmbeddingsRef, ImagesRef, TaskRef]:
    tree(place.root, {f"{number:02}.png": encoded_image(number) for number in range(20)})
    images = place.images(classes=CLASSES)
    spec = spec_of(place)
    return place.embed(images), images, open_task.fn(images, spec.pool, spec.runtime)


def spec_of(place: Embedding, **changes: Any) -> CoftSpec:
    spec = place.spec(classes=CLASSES)
    return spec.model_copy(update=changes)


def choose(place: Embedding, made: Any, **wanted: Any) -> SentencesRef:
    embeddings, images, task = made
    spec = spec_of(place, sentences=SentencesSpec(**wanted))
    return choose_sentences.fn(embeddings, images, task, place.backbone, spec)


def own_file(folder: Path, content: object) -> str:
    path = folder / "own.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_all_sets_are_weighed_and_the_second_time_nothing_is(
    place: Embedding, made: Any, tmp_path: Path
) -> None:
    file = own_file(tmp_path, {"deer": ["a deer in a wood."]})
    ref = choose(place, made, file=file)
    record = read_record(ref.file)
    assert [row.name for row in record.candidates] == ["plain", "synonyms", "file"]
    by_name = {row.name: row for row in record.candidates}
    best = max(by_name.values(), key=lambda row: row.mutual_information)
    if record.chosen != best.name:
        assert best.least_share < 0.5
    assert all(0 <= row.mutual_information <= 1 for row in record.candidates)
    assert (by_name["plain"].least_share, by_name["plain"].num_sentences) == (1, 9)
    assert (by_name["file"].num_classes, by_name["file"].num_sentences) == (1, 1)
    assert by_name["synonyms"].num_classes == 2
    assert list(record.sentences) == CLASSES.split(",")
    again = choose(place, made, file=file)
    assert (again.resumed, again.digest, again.chosen) == (True, ref.digest, ref.chosen)


def test_without_others_the_plain_templates_stay_and_labels_are_what_they_were(
    place: Embedding, made: Any
) -> None:
    ref = choose(place, made, synonyms=False)
    record = read_record(ref.file)
    assert (ref.chosen, ref.content) == ("plain", "")
    assert record.why == "plain: there is no other set that tells the images apart better"
    embeddings, images, task = made
    about = (embeddings, images, task, place.backbone, spec_of(place))
    assert label_zero_shot.fn(*about, ref).digest == label_zero_shot.fn(*about).digest


def test_each_setting_and_each_sentence_changes_the_digest(
    place: Embedding, made: Any, tmp_path: Path
) -> None:
    digests = [
        choose(place, made).digest,
        choose(place, made, synonyms=False).digest,
        choose(place, made, file=own_file(tmp_path, {"deer": ["a deer."]})).digest,
        choose(place, made, file=own_file(tmp_path, {"deer": ["a stag."]})).digest,
    ]
    assert len(set(digests)) == 4


def test_a_persons_sentences_are_used_as_they_are(
    place: Embedding, made: Any, tmp_path: Path
) -> None:
    embeddings, images, task = made
    digests = set()
    for text in ("a deer in a wood.", "a stag in a wood."):
        spec = spec_of(place, templates=own_file(tmp_path, {"deer": [text]}))
        ref = given_sentences.fn(task, place.backbone, spec)
        assert ref is not None
        assert read_record(ref.file).sentences["deer"] == (text,)
        assert len(read_record(ref.file).sentences["xyzzy"]) == 3
        labels = label_zero_shot.fn(embeddings, images, task, place.backbone, spec, ref)
        digests |= {ref.content, labels.digest}
    assert len(digests) == 4
    assert given_sentences.fn(task, place.backbone, spec_of(place)) is None


def test_what_was_chosen_is_taken_as_given_with_its_table(place: Embedding, made: Any) -> None:
    chosen = choose(place, made)
    _, _, task = made
    given = given_sentences.fn(task, place.backbone, spec_of(place, templates=chosen.file))
    assert given is not None
    assert read_record(given.file) == read_record(chosen.file)


def test_plain_sentences_from_a_file_are_the_plain_templates(place: Embedding, made: Any) -> None:
    chosen = choose(place, made, synonyms=False)
    embeddings, images, task = made
    spec = spec_of(place, templates=chosen.file)
    given = given_sentences.fn(task, place.backbone, spec)
    assert given is not None
    about = (embeddings, images, task, place.backbone)
    plain = label_zero_shot.fn(*about, spec_of(place))
    assert label_zero_shot.fn(*about, spec, given).digest == plain.digest


def test_sentences_of_another_backbone_are_used_and_told(
    place: Embedding, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = choose(place, made)
    other = place.backbone.model_copy(update={"name": "another"})
    given_sentences.fn(made[2], other, spec_of(place, templates=chosen.file))
    assert f"they were chosen with {place.backbone.name}" in capsys.readouterr().err


def test_sentences_beside_the_class_names_are_weighed(place: Embedding, tmp_path: Path) -> None:
    tree(place.root, {f"{number:02}.png": encoded_image(number) for number in range(12)})
    (tmp_path / "classes.csv").write_text(
        "name,what it is\ncat,a small animal with fur.\ndog,an animal that barks\n"
    )
    spec = place.spec(classes=str(tmp_path / "classes.csv"))
    images = place.images(classes=str(tmp_path / "classes.csv"))
    task = open_task.fn(images, spec.pool, spec.runtime)
    spec = spec.model_copy(update={"sentences": SentencesSpec(synonyms=False)})
    ref = choose_sentences.fn(place.embed(images), images, task, place.backbone, spec)
    rows = read_record(ref.file).candidates
    assert [(row.name, row.num_sentences) for row in rows] == [("plain", 6), ("descriptions", 6)]
