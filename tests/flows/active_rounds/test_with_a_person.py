"""Rounds that a person answers, by command or in a flow that waits."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.flow_runs import resume_flow_run
from prefect.states import StateType

from flows import cli
from flows.active_rounds import active_round, active_rounds, answer_rounds
from infra import interrupts
from tasks.active.rounds import hold_rounds, open_rounds, read_query, start_rounds, unanswered
from tasks.active.specs import QuerySpec, RoundsSpec
from tasks.specs import InputError
from tests.worlds.cluster import ROOT
from tests.worlds.rounds import (
    NAME,
    PER_ROUND,
    active_spec,
    file_times,
    here,
    images_of,
    truth_of,
    write_answers,
)

PAUSED = """
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # that the tests may ignore
    signal.signal(number, signal.SIG_DFL)
from infra import interrupts, offline

interrupts.listen()
offline.apply()
from flows.active_rounds import active_rounds
from tests.worlds.rounds import NAME, here

try:
    active_rounds(here(sys.argv[1]), NAME, wait="pause")
except KeyboardInterrupt:
    interrupts.end()
"""

pytestmark = [
    pytest.mark.usefixtures("prefect_session", "ray_session"),
    pytest.mark.timeout(600),
]


def test_the_first_round_asks_in_every_form(place: str) -> None:
    first = open_rounds(here(place), NAME).states[0]
    assert (first.number, first.num_labels, first.query_size) == (0, 0, PER_ROUND)
    assert first.accuracy is not None
    rounds = open_rounds(here(place), NAME)
    query = read_query(rounds, 0)
    asked = query["image_id"].to_pylist()
    assert len(set(asked)) == PER_ROUND
    assert set(query["round"].to_pylist()) == {0}
    folder = Path(rounds.round_folder(0))
    assert (folder / "contact-sheet.html").stat().st_size > 1000
    tasks = json.loads((folder / "label-studio" / "tasks-0001.json").read_text())
    assert [task["data"]["image_id"] for task in tasks] == asked
    with pytest.raises(InputError, match="None of the 6 images"):
        active_round(here(place), NAME)


def test_a_person_answers_round_by_round(
    place: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds, truth = open_rounds(here(place), NAME), truth_of(place)
    asked = read_query(rounds, 0)["image_id"].to_pylist()
    before = file_times(Path(rounds.round_folder(0)))
    some = {image: truth[image] for image in asked[:3]} | {asked[3]: "skip"}
    answer_rounds(here(place), NAME, write_answers(tmp_path / "some.csv", some))
    again = answer_rounds(here(place), NAME, write_answers(tmp_path / "again.csv", some))
    assert again.imported_before

    second = active_round(here(place), NAME)
    assert (second.number, second.num_labels, second.query_size) == (1, 3, PER_ROUND)
    assert second.churn is not None
    assert second.model_version == "2"
    later = read_query(open_rounds(here(place), NAME), 1)["image_id"].to_pylist()
    assert not set(later) & set(asked[:4]), "answered or skipped images are not asked again"

    answer_rounds(
        here(place), NAME, write_answers(tmp_path / "rest.csv", {i: truth[i] for i in later})
    )
    third = active_round(here(place), NAME)
    assert (third.num_labels, third.query_size) == (9, 1), "one label of the budget is left"
    assert before == file_times(Path(rounds.round_folder(0))), "a round never changes"

    assert cli.run(["active", "status", "--workspace", place]) == 0
    said = capsys.readouterr().out
    assert "round 2, 9 answers" in said
    assert "the next 1 labels may raise accuracy by about" in said
    assert f"coft active answer FILE --name {NAME} --workspace {place}" in said

    page = (Path(rounds.folder) / "report.html").read_text()
    assert "9 of 10 labels are in after round 2" in page
    assert '<a href="round-02/contact-sheet.html">' in page
    assert all(f'<th scope="row">{label}</th>' in page for label in ("red", "green", "blue"))
    assert sum(third.predicted_per_class.values()) == 60


def test_a_paused_flow_goes_on_when_a_person_has_answered_and_resumes_it(
    place: str, tmp_path: Path
) -> None:
    truth, before = truth_of(place), _paused_runs()
    with ThreadPoolExecutor(1) as threads:
        context = copy_context()  # with the address of the tests' Prefect server
        flow = threads.submit(context.run, active_rounds, here(place), NAME, wait="pause")
        for number in (0, 1):
            run = _paused(before, flow.done)
            asked = read_query(open_rounds(here(place), NAME), number)["image_id"].to_pylist()
            answers = {image: truth[image] for image in asked}
            answer_rounds(here(place), NAME, write_answers(tmp_path / f"{number}.csv", answers))
            resume_flow_run(run)
        last = flow.result(timeout=300)
    assert (last.number, last.num_labels, last.query_size) == (2, 10, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_paused_flow_can_be_stopped_and_its_question_stays_open(place: str, number: int) -> None:
    before, paused = file_times(Path(place)), _paused_runs()
    with subprocess.Popen(
        [sys.executable, "-c", PAUSED, place],
        cwd=ROOT,
        env={**os.environ, "PREFECT_LOGGING_LEVEL": "CRITICAL"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _paused(paused, process.poll)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, f"{interrupts.WORDS}\n")
    assert file_times(Path(place)) == before
    assert unanswered(open_rounds(here(place), NAME)) == PER_ROUND


def _paused_runs() -> list[UUID]:
    paused = FlowRunFilter(state={"type": {"any_": [StateType.PAUSED]}})
    with get_client(sync_client=True) as client:
        return [run.id for run in client.read_flow_runs(flow_run_filter=paused)]


def _paused(before: Collection[UUID], ended: Callable[[], object]) -> UUID:
    """Wait until Prefect has a paused run that it had not before, and return its id."""
    for _ in range(3000):
        if found := set(_paused_runs()) - set(before):
            return found.pop()
        assert not ended()
        time.sleep(0.1)
    raise AssertionError("the flow never paused")


def test_two_commands_at_once_do_not_mix(place: str) -> None:
    with (
        hold_rounds(here(place), NAME),
        pytest.raises(InputError, match="Another command is at work"),
    ):
        active_round(here(place), NAME)
    with hold_rounds(here(place), NAME) as rounds:
        assert rounds.number == 1


def test_answers_about_test_images_are_not_trained_on(place: str, tmp_path: Path) -> None:
    table = images_of(place)
    everything = dict(zip(table["image_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    taken = answer_rounds(here(place), NAME, write_answers(tmp_path / "all.csv", everything))
    assert taken.num_unknown_images == 15
    state = active_round(here(place), NAME)
    assert state.num_labels == 45
    assert state.query_size == 0


def test_other_images_under_running_rounds_are_refused(
    place: str, begun: tuple[Path, Path], tmp_path: Path
) -> None:
    images, truth = begun[0], truth_of(place)
    asked = read_query(open_rounds(here(place), NAME), 0)["image_id"].to_pylist()
    answer_rounds(
        here(place), NAME, write_answers(tmp_path / "a.csv", {i: truth[i] for i in asked})
    )
    whole = images.read_bytes()
    pq.write_table(pq.read_table(images).slice(3), images)
    try:
        with pytest.raises(InputError, match="changed since they began"):
            active_round(here(place), NAME)
    finally:
        images.write_bytes(whole)


def test_other_settings_under_the_same_name_are_refused(
    place: str, begun: tuple[Path, Path], tiny_clip: Path
) -> None:
    active = active_spec(begun[0], Path(place), tiny_clip)
    same = start_rounds(RoundsSpec(name=NAME, budget=10, active=active))
    assert same.number == 1
    with pytest.raises(InputError, match="budget"):
        start_rounds(RoundsSpec(name=NAME, budget=11, active=active))
    wrong = active.model_copy(update={"query": QuerySpec(strategy="best")})
    with pytest.raises(InputError, match="'best' is unknown"):
        start_rounds(RoundsSpec(name="others", budget=11, active=wrong))
