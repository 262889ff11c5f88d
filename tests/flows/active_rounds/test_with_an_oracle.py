"""Rounds that a table of labels answers."""

import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pytest

from flows import cli
from flows.active_rounds import active_rounds
from flows.commands.options import Where
from tasks.active.rounds import open_rounds, read_query, unanswered
from tasks.active.take_answers import answer_by_script
from tasks.label.people import known_answers
from tasks.specs import InputError
from tasks.storage.manifest import iter_tables
from tasks.storage.tables import read_table
from tests.worlds.rounds import (
    NAME,
    file_times,
    here,
    images_of,
    refs_of_rounds,
    truth_of,
    write_answers,
)

pytestmark = [
    pytest.mark.usefixtures("prefect_session", "ray_session"),
    pytest.mark.timeout(600),
]


def test_an_oracle_answers_until_the_budget_is_spent_and_nothing_is_computed_twice(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    last = active_rounds(here(place), NAME, oracle="column")
    assert (last.number, last.num_labels, last.query_size) == (2, 10, 0)
    rounds = open_rounds(here(place), NAME)
    assert rounds.finished
    asked = [i for n in (0, 1) for i in read_query(rounds, n)["image_id"].to_pylist()]
    assert len(asked) == len(set(asked)) == 10
    before = file_times(Path(rounds.folder))
    assert active_rounds(here(place), NAME, oracle="column") == last
    assert before == file_times(Path(rounds.folder))
    assert cli.run(["active", "status", "--workspace", place]) == 0
    command = capsys.readouterr().out.rpartition(": coft ")[2]
    assert f"--answers {rounds.folder} --workspace {place}" in command
    _, bound, _ = cli.app.parse_args(shlex.split(command))
    again = bound.arguments["about"].spec(Where(workspace=place))
    unsaid = {"command": "", "runtime": here(place)}
    run = rounds.spec.active.run.model_copy(update=unsaid)
    assert again.model_copy(update=unsaid) == run
    known = known_answers.fn(
        *refs_of_rounds(place), run.model_copy(update={"answers": rounds.folder})
    )
    assert known is not None
    labels = read_table(known.uri)
    assert sorted(labels["image_id"].to_pylist()) == sorted(asked)


def test_a_file_answers_what_was_asked_and_nothing_else(place: str, tmp_path: Path) -> None:
    table = images_of(place)
    known = table.filter(pc.not_equal(table["label"], "blue")).select(["uri", "label"])
    pacsv.write_csv(known, tmp_path / "oracle.csv")
    last = active_rounds(here(place), NAME, oracle=str(tmp_path / "oracle.csv"))
    assert last.query_size == 0
    assert last.answers_per_class["blue"] == 0
    rounds = open_rounds(here(place), NAME)
    answers = read_table(str(Path(rounds.round_folder(last.number)) / "answers.parquet"))
    asked = [
        i
        for state in rounds.states
        for i in read_query(rounds, state.number)["image_id"].to_pylist()
    ]
    assert sorted(answers["image_id"].to_pylist()) == sorted(asked)
    kinds = dict(zip(answers["image_id"].to_pylist(), answers["kind"].to_pylist(), strict=True))
    truth = truth_of(place)
    assert all((kind == "skip") == (truth[image] == "blue") for image, kind in kinds.items())


def test_an_oracle_that_knows_none_of_those_asked_skips_them_and_one_of_others_is_refused(
    place: str, tmp_path: Path
) -> None:
    rounds, truth = open_rounds(here(place), NAME), truth_of(place)
    refs = refs_of_rounds(place)
    asked = read_query(rounds, 0)["image_id"].to_pylist()
    strange = write_answers(tmp_path / "strange.csv", {"0" * 32: "red"})
    with pytest.raises(InputError, match="expected answers about images of the pool"):
        answer_by_script.fn(rounds, strange, *refs)
    images = pa.concat_tables(iter_tables(refs[0].uri, ["image_id", "split"]))
    others = images.filter(pc.equal(images["split"], "pool"))["image_id"].to_pylist()
    other = next(image for image in others if image not in asked)
    answer_by_script.fn(rounds, write_answers(tmp_path / "other.csv", {other: truth[other]}), *refs)
    assert unanswered(open_rounds(here(place), NAME)) == 0
