"""What people are asked about beside rounds: each kind of question of one finished workspace."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.answering import sample
from tasks.answering.desk import Desk, Question
from tasks.answering.listed import ANSWERS, TEST, ListedWork, label_listed, work_of
from tasks.answering.predicted import Predicted
from tasks.answering.specs import AskSpec, PageSpec
from tasks.answering.work import most_alike
from tasks.answers.journal import Journal, Said
from tasks.specs import InputError, RuntimeSpec
from tests.worlds.workspace import CLASSES, Made, age, write_predictions, write_workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return write_workspace(str(tmp_path_factory.mktemp("asked") / "workspace"), rows=240)


def asked(work: ListedWork, tmp_path: Path) -> tuple[Desk, list[Question]]:
    desk = Desk(Journal(str(tmp_path / "record"), "page"))
    work.look(desk)
    return desk, desk.take("ann", 500)


def work(made: Made, **how: object) -> ListedWork:
    return work_of(made.uri, None, (), AskSpec.model_validate({"name": "test", **how}))


def test_unsure_predictions_come_with_the_likeliest_classes(made: Made, tmp_path: Path) -> None:
    _, questions = asked(work(made, below=0.85), tmp_path)
    assert [one.image_id for one in questions] == [made.ids[2], made.ids[4]]
    assert questions[0].confidence == pytest.approx(0.51)
    assert [name for name, _ in questions[0].likely] == [CLASSES[2], CLASSES[1], CLASSES[0]]
    with pytest.raises(InputError, match="there are none"):
        work(made, below=0.1)


def test_two_confused_classes(made: Made) -> None:
    with pytest.raises(InputError, match="there are none"):  # no prediction has a second class
        work(made, confused="cat,DOG")
    for wrong in ("cat", "cat,cow", "cat,dog,cat", "cat,cat"):
        with pytest.raises(InputError, match="expected two class names"):
            work(made, confused=wrong)


def test_disagreements_offer_both_labels_and_favour_none(made: Made, tmp_path: Path) -> None:
    _, questions = asked(work(made, disagreements=True), tmp_path)
    first = {one.image_id: one for one in questions}[made.ids[2]]
    assert {name for name, _ in first.likely} == {CLASSES[1], CLASSES[2]}
    assert first.label is None
    assert "members disagree" in first.reason


def test_refused_files_say_why(made: Made, tmp_path: Path) -> None:
    _, questions = asked(work(made, quarantine=True), tmp_path)
    assert [one.uri for one in questions] == ["bad.png"]
    assert "refused: truncated" in questions[0].reason


def test_one_kind_at_a_time() -> None:
    ask = AskSpec(below=0.5, as_test=True)
    with pytest.raises(InputError, match="--below and --as-test: expected one of them"):
        label_listed(RuntimeSpec(workspace="memory://x"), None, (), ask, PageSpec())


def test_a_file_must_have_predictions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a Parquet file of predictions"):
        Predicted("w", str(tmp_path / "absent.parquet"), None)
    file = tmp_path / "some.parquet"
    pq.write_table(pa.table({"image_id": ["a"], "label": ["cat"]}), file)
    with pytest.raises(InputError, match="found no uri and no confidence"):
        Predicted("w", str(file), None).rows("SELECT * FROM predictions")
    file.write_text("no Parquet")
    with pytest.raises(InputError):
        Predicted("w", str(file), None).rows("SELECT * FROM predictions")


def test_probabilities_of_a_file_are_of_nobody_knows_which_classes(tmp_path: Path) -> None:
    """The model's classes were (owl, cat); by their names they would be the other way round."""
    row = {"image_id": "a", "uri": "/a.png", "label": "owl", "confidence": 0.55}
    more = {"runner_up": "cat", "runner_up_confidence": 0.45, "probabilities": [0.55, 0.45]}
    pq.write_table(pa.Table.from_pylist([{**row, **more}]), tmp_path / "predict.parquet")
    made = work_of(str(tmp_path / "w"), str(tmp_path / "predict.parquet"), (), AskSpec())
    (question,) = made.questions
    assert dict(question.likely) == pytest.approx({"owl": 0.55, "cat": 0.45})
    assert question.likely[0][0] == question.label


# --- a test set -----------------------------------------------------------------------------------


def test_a_sample_is_half_of_what_differs_and_drawn_once(made: Made) -> None:
    drawn = sample.draw(Predicted(made.uri, None, None), AskSpec(as_test=True))
    assert drawn.num_rows == len(made.ids)
    assert Counter(drawn["differ"].to_pylist()) == {False: 239, True: 1}
    assert drawn["differ"].to_pylist()[:3] == [True, False, False]  # one of each in turn
    assert set(drawn["size"].filter(drawn["differ"]).to_pylist()) == {1}
    few = sample.draw(Predicted(made.uri, None, None), AskSpec(as_test=True, most=20))
    assert few["image_id"].to_pylist() == drawn["image_id"].to_pylist()[:20]
    other = sample.draw(Predicted(made.uri, None, None), AskSpec(as_test=True, seed=1))
    assert other["image_id"].to_pylist() != drawn["image_id"].to_pylist()


def test_a_name_is_for_one_set_of_predictions(tmp_path: Path) -> None:
    uri, workspace = str(tmp_path / "workspace"), tmp_path / "workspace"
    made = write_workspace(uri)
    first = work(made, as_test=True, most=10)
    again = work(made, as_test=True, most=20)
    assert [one.image_id for one in again.questions][:10] == [o.image_id for o in first.questions]
    with pytest.raises(InputError, match="of other seed; give the new one another --name"):
        work(made, as_test=True, seed=1)
    changed = [{"label": "dog", "confidence": 0.9, "probabilities": [0.1, 0.9, 0.0]}] * 48
    write_predictions(uri, "f" * 16, made.ids, changed)
    age(str(workspace / "predictions" / ("d" * 16)), 60)
    with pytest.raises(InputError, match="of other predictions"):
        work(made, as_test=True)
    assert work(made, as_test=True, name="new").questions


def test_what_models_say_is_not_told(made: Made) -> None:
    classes = [*CLASSES, *(f"other {number}" for number in range(9))]
    drawn = sample.draw(Predicted(made.uri, None, None), AskSpec(as_test=True))
    questions = sample.blind(drawn, classes)
    assert {one.label for one in questions} == {None}
    assert {one.confidence for one in questions} == {None}
    assert all(share is None for one in questions for _, share in one.likely)
    places = Counter(
        [name for name, _ in one.likely].index(label)
        for one, label in zip(questions, drawn["label"].to_pylist(), strict=True)
    )
    assert min(places[place] for place in range(5)) > 20  # of 240: any key may be the model's


def test_estimates_of_both_models_and_which_one_is_better() -> None:
    """80 images differ: the adapted model is right on 60 of these; 320 agree, 256 of them right."""
    rows = [
        {"image_id": str(n), "uri": "u", "label": "a", "zero_shot": "b" if n < 80 else "a"}
        | {"differ": n < 80, "size": 80 if n < 80 else 320}
        for n in range(400)
    ]
    drawn = pa.Table.from_pylist(rows, schema=sample.SCHEMA)
    truth = {
        str(n): "a" if n < 60 or 80 <= n < 336 else "b" if n < 80 else None for n in range(400)
    }
    everything = sample.measure(drawn, truth)
    assert everything.lines[0] == ("With 400 answers: adapted 0.79 ± 0.00, zero-shot 0.69 ± 0.00.")
    assert "right on 60, zero-shot on 20, neither on 0" in everything.lines[1]
    assert everything.enough
    some = {str(n): truth[str(n)] for n in (*range(56, 64), *range(330, 340))}
    few = sample.measure(drawn, some)
    assert not few.enough
    assert "Not decided yet" in few.lines[1]
    assert sample.measure(drawn, {}).lines == ()
    assert "unknown" in sample.measure(drawn, {"0": "a"}).lines[0]


def test_models_that_are_equal_end_it_too() -> None:
    rows = [
        {"image_id": str(n), "uri": "u", "label": "a", "zero_shot": "b" if n < 2 else "a"}
        | {"differ": n < 2, "size": 2 if n < 2 else 998}
        for n in range(40)
    ]
    drawn = pa.Table.from_pylist(rows, schema=sample.SCHEMA)
    found = sample.measure(drawn, {str(n): "a" if n else "b" for n in range(40)})
    assert found.enough
    assert "Neither is better by a point or more" in found.lines[1]


def test_the_end_writes_files_that_other_commands_take(made: Made, tmp_path: Path) -> None:
    first = work(made, as_test=True)
    first.folder = str(tmp_path)
    desk, questions = asked(first, tmp_path)
    desk.answer("ann", [Said(questions[0].image_id, "label", "cat")])
    desk.answer("ann", [Said(questions[1].image_id, "none", None)])
    lines = list(first.close())
    assert any("coft adapt ... --test" in line for line in lines)
    assert pq.read_table(tmp_path / TEST).to_pylist() == [{"uri": questions[0].uri, "label": "cat"}]
    assert "none of these classes" in (tmp_path / ANSWERS).read_text()


# --- images that look alike -----------------------------------------------------------------------


def test_the_most_alike_of_the_answered_images() -> None:
    random = np.random.default_rng(0)
    features = {f"i{n}": random.normal(size=8).astype(np.float16) for n in range(9)}
    features["near"] = features["i0"] * 2
    labels = {name: "cat" for name in features if name != "i0"} | {"elsewhere": "dog"}
    found = most_alike(features, "i0", labels)
    assert found[0][:2] == ("near", "cat")
    assert found[0][2] == pytest.approx(1, abs=1e-3)
    assert [one[2] for one in found] == sorted((one[2] for one in found), reverse=True)
    assert most_alike(features, "absent", labels) == []
    assert most_alike(features, "i0", {"i0": "cat"}) == []
