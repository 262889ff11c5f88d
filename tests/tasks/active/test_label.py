"""Rounds as what the page is about: their last query, what came of each, when the next begins."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ByteSize

from tasks.active.label import RoundsWork, _options
from tasks.active.rounds import ANSWERS_FILE, PIN, QUERY_FILE, STATE, RoundState, start_rounds
from tasks.active.specs import ActiveSpec, QuerySpec, RoundsSpec
from tasks.answering.desk import Desk
from tasks.answers.journal import Journal, Said
from tasks.answers.schema import ASKED, MERGED, QUERY
from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec
from tasks.storage.files import write_json
from tasks.storage.tables import write_table

CLASSES = ["cat", "dog"]
BUDGET = 30


def rows(number: int, asked: int) -> list[dict[str, object]]:
    return [
        {
            "image_id": f"{number}-{place}",
            "uri": f"/photos/{number}-{place}.png",
            "label": "cat",
            "confidence": 0.5,
            "reason": "two classes are almost equally likely",
            "position": place,
            "round": number,
            "likely": [{"label": "cat", "probability": 0.5}],
            "features": np.eye(asked, dtype=np.float16)[place],
        }
        for place in range(asked)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    runtime = RuntimeSpec(workspace=str(tmp_path / "workspace"))
    run = CoftSpec(pool=PoolSpec(images=str(tmp_path)), runtime=runtime)
    active = ActiveSpec(run=run, query=QuerySpec(per_round=10), start="zero-shot")
    return Path(start_rounds(RoundsSpec(name="photos", active=active, budget=BUDGET)).folder)


def finish_round(folder: Path, number: int, asked: int, schema: pa.Schema = ASKED) -> None:
    """Write what a round leaves behind, as far as the page looks at it."""
    place = folder / f"round-{number:02d}"
    names = [name for name in schema.names if name != "likely" or schema is ASKED]
    table = pa.Table.from_pylist(rows(number, max(1, asked)), schema=ASKED).select(names)
    write_table(str(place / QUERY_FILE), table.slice(0, asked))
    write_table(str(place / ANSWERS_FILE), MERGED.empty_table())
    write_json(str(folder / PIN), {"classes": CLASSES})
    state = RoundState(
        number=number, num_labels=0, num_asked=10 * (number + 1), query_size=asked, accuracy=0.5
    )
    write_json(str(place / STATE), state)


def open_work(folder: Path) -> tuple[RoundsWork, Desk]:
    work = RoundsWork(RuntimeSpec(workspace=str(folder.parents[1])), "photos", 0.9)
    return work, Desk(Journal(str(folder), "page"))


def test_the_last_query_is_asked_and_a_new_one_takes_its_place(folder: Path) -> None:
    finish_round(folder, 0, 10)
    work, desk = open_work(folder)
    work.look(desk)
    assert work.classes() == CLASSES
    assert [one.image_id for one in desk.queue] == [f"0-{place}" for place in range(10)]
    assert desk.queue[0].likely == (("cat", 0.5),)
    assert work.features["0-3"].tolist() == np.eye(10)[3].tolist()
    finish_round(folder, 1, 10)
    work.look(desk)
    assert [one.round for one in desk.queue] == [1] * 10
    assert desk.find("0-3") is not None
    facts = work.facts(desk)
    assert [one["number"] for one in facts["rounds"]] == [0, 1]
    assert facts["training"] is None


def test_a_query_of_before_has_no_likely_classes_and_can_be_answered(folder: Path) -> None:
    finish_round(folder, 0, 4, schema=QUERY)
    work, desk = open_work(folder)
    work.look(desk)
    assert [one.likely for one in desk.queue] == [()] * 4
    assert work.features == {}


def test_nothing_begins_before_enough_is_answered(folder: Path) -> None:
    finish_round(folder, 0, 10)
    work, desk = open_work(folder)
    work.look(desk)
    assert work.facts(desk)["trains_at"] == 9
    assert work.go_on() == "There are no new answers to train on."
    desk.answer("ann", [Said(f"0-{place}", "label", "cat") for place in range(8)])
    work.look(desk)
    assert work.facts(desk)["training"] is None


def test_of_the_last_query_all_has_to_be_answered(folder: Path) -> None:
    for number in range(3):
        finish_round(folder, number, 10)
    work, desk = open_work(folder)
    work.look(desk)
    assert work.facts(desk)["trains_at"] == 10


def test_the_next_round_runs_where_and_as_wide_as_the_page_was_told(tmp_path: Path) -> None:
    place = str(tmp_path)
    assert _options(RuntimeSpec(workspace=place)) == ["--workspace", place]
    wide = RuntimeSpec(workspace=place, num_actors=3, on_busy="end", pixel_cache=ByteSize(0))
    words = ["--num-actors", "3", "--on-busy", "end", "--pixel-cache", "0"]
    assert _options(wide) == ["--workspace", place, *words]


def test_the_end_says_how_to_go_on(folder: Path) -> None:
    finish_round(folder, 0, 10)
    work, _ = open_work(folder)
    (line,) = work.close()
    assert f"coft active label --name photos --workspace {folder.parents[1]}" in line
