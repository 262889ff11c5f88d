"""The page on which people answer: by its commands, and by kill -9."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from tasks.active.rounds import open_rounds
from tasks.specs import RuntimeSpec
from tests.worlds.commands import Place, coft
from tests.worlds.images import write_images
from tests.worlds.pages import (
    Visitor,
    decided,
    drawn_questions,
    page_in_a_process,
    visiting,
    write_predictions,
)
from tests.worlds.served import free_port

CLASSES = ("cat", "dog", "owl", "red panda", "<b>&", "seal")
PER_ROUND = 6
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("prefect_session", "ray_session")
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # mlflow 3.17
def test_rounds_go_on_while_somebody_answers(tmp_path: Path, tiny_clip: Path) -> None:
    """The first question is made by the page itself, and the next round by its answers."""
    write_images(tmp_path)
    place, port = Place(tmp_path, tiny_clip), free_port()
    words = ["--budget", 2 * PER_ROUND, "--per-round", PER_ROUND, "--max-similarity", 1]
    coft("active", "start", *place.about, *place.learner, *words, "--name", "page")
    seen: list[dict[str, Any]] = []

    def answer_two_rounds(visitor: Visitor) -> None:
        for _ in range(2):
            asked = visitor.wait_for_questions()
            assert len(asked) == PER_ROUND
            assert all(len(one["likely"]) > 1 for one in asked)
            visitor.answer(*((one["image_id"], "label", one["label"]) for one in asked))
        seen.append(visitor.wait_for_the_end())

    folder = place.workspace / "rounds" / "page"
    client = visiting(port, folder, answer_two_rounds)
    named = ["--name", "page", "--port", port, "--no-browser", "--workspace", place.workspace]
    printed = coft("active", "label", *named)
    client.join()
    assert [one["num_labels"] for one in seen[0]["rounds"]] == [0, PER_ROUND, 2 * PER_ROUND]
    assert seen[0]["failure"] is None
    assert "Finished: the budget is spent" in printed
    assert open_rounds(RuntimeSpec(workspace=str(place.workspace)), "page").finished
    assert len(decided(folder)) == 2 * PER_ROUND


def test_answers_about_predictions_become_files(tmp_path: Path) -> None:
    questions = drawn_questions(tmp_path, 8, CLASSES)
    write_predictions(tmp_path / "predict.parquet", questions)
    port, workspace = free_port(), tmp_path / "workspace"

    def answer_some(visitor: Visitor) -> None:
        asked = visitor.questions()
        assert [one["label"] for one in asked] == [one.label for one in questions]
        visitor.answer((asked[0]["image_id"], "label", "owl"), (asked[1]["image_id"], "none", None))

    folder = workspace / "asked" / "below"
    client = visiting(port, folder, answer_some)
    words = ["--from", tmp_path / "predict.parquet", "--below", 0.6, "--port", port]
    printed = coft("label", *words, "--no-browser", "--workspace", workspace)
    client.join()
    assert f"--answers {folder}/answers.csv" in printed
    rows = pacsv.read_csv(folder / "answers.csv").to_pylist()
    assert [(row["uri"], row["label"], row["kind"]) for row in rows] == [
        (questions[0].uri, "owl", "label"),
        (questions[1].uri, "none of these classes", "none"),
    ]


def test_a_test_set_of_a_file_is_measured_and_written(tmp_path: Path) -> None:
    questions = drawn_questions(tmp_path, 40, CLASSES)
    write_predictions(tmp_path / "predict.parquet", questions)
    port, workspace = free_port(), tmp_path / "workspace"
    truth = {one.image_id: str(one.label) for one in questions}
    told: list[str] = []

    def answer_most(visitor: Visitor) -> None:
        asked = visitor.questions(30)
        assert {one["label"] for one in asked} == {None}  # what the model says is not told
        assert all(truth[one["image_id"]] in dict(one["likely"]) for one in asked)
        visitor.answer(*((one["image_id"], "label", truth[one["image_id"]]) for one in asked[3:]))
        visitor.answer(*((one["image_id"], "label", "cat") for one in asked[:3]))
        told.extend(visitor.state()["measured"])

    folder = workspace / "asked" / "as-test"
    client = visiting(port, folder, answer_most)
    words = ["--from", tmp_path / "predict.parquet", "--as-test", "--port", port, "--no-browser"]
    printed = coft("label", *words, "--workspace", workspace)
    client.join()
    assert told[0].startswith("With 30 answers: adapted 0.9")
    assert f"--test {folder}/test.parquet" in printed
    table = pq.read_table(folder / "test.parquet")
    assert table.num_rows == 30
    assert set(table.column_names) == {"uri", "label"}


def test_kill_9_after_each_of_20_answers_loses_none(tmp_path: Path) -> None:
    questions = drawn_questions(tmp_path, 24, CLASSES)
    write_predictions(tmp_path / "predict.parquet", questions)
    port, folder = free_port(), tmp_path / "workspace" / "asked" / "below"
    words = ["label", "--from", tmp_path / "predict.parquet", "--port", port, "--no-browser"]
    for number in range(20):
        place = ["--workspace", tmp_path / "workspace"]
        with page_in_a_process(*words, *place) as process, Visitor(port, folder) as visitor:
            assert visitor.state()["done"] == number
            image = visitor.questions(1)[0]["image_id"]
            visitor.answer((image, "label", CLASSES[number % 6]))
            process.kill()
        assert decided(folder)[image] == CLASSES[number % 6]
    assert len(decided(folder)) == 20


def test_a_second_page_of_the_same_questions_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_predictions(tmp_path / "predict.parquet", drawn_questions(tmp_path, 4, CLASSES))
    port, workspace = free_port(), tmp_path / "workspace"
    words = ["--from", tmp_path / "predict.parquet", "--no-browser", "--workspace", workspace]
    with page_in_a_process("label", *words, "--port", port):
        Visitor(port, workspace / "asked" / "below").__exit__()
        with pytest.raises(AssertionError):
            coft("label", *words)
    assert "another page asks these questions already" in capsys.readouterr().err
