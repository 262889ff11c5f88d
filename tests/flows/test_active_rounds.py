"""Rounds with a person and rounds by script, on drawn images and a tiny CLIP."""

import json
import shlex
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import torch
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.flow_runs import resume_flow_run
from prefect.states import StateType

from clipcore.classifier import load_classifier
from flows import cli
from flows.active_rounds import active_round, active_rounds, answer_rounds
from flows.commands.options import Where
from flows.simulate import simulate
from tasks.active.rounds import (
    RoundState,
    hold_rounds,
    open_rounds,
    read_query,
    start_rounds,
    unanswered,
)
from tasks.active.simulate import read_findings
from tasks.active.take_answers import answer_by_script
from tasks.images.disk_cache import map_pixels
from tasks.label import known_answers
from tasks.pool.open import open_pool
from tasks.refs import PoolRef
from tasks.specs import (
    ActiveSpec,
    BackboneSpec,
    CoftSpec,
    InputError,
    LabelSpec,
    LearnerSpec,
    Phase1Spec,
    PoolSpec,
    QuerySpec,
    RoundsSpec,
    RuntimeSpec,
    SimulationSpec,
)
from tasks.storage.manifest import iter_tables
from tasks.storage.tables import read_table
from tests.flows.drawn import write_images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),  # mlflow 3.17
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),  # mlflow 3.17
]

NAME = "colours"
PER_ROUND = 6


def _active(images: Path, workspace: Path, clip: Path, **changes: object) -> ActiveSpec:
    run = CoftSpec(
        pool=PoolSpec(images=str(images), labels="column", rows_per_shard=16),
        backbone=BackboneSpec(name=f"local-dir:{clip}"),
        label=LabelSpec(per_class=4, min_confident=0),
        phase1=Phase1Spec(epochs=2, min_steps=0, batch_size=8, num_visual_prompts=2),
        runtime=RuntimeSpec(workspace=str(workspace)),
    )
    learner = LearnerSpec(epochs=2, min_steps=4, per_class=4, min_pseudo=0, learning_rate=0.1)
    query = QuerySpec(per_round=PER_ROUND, max_similarity=1.0)
    values = {"run": run, "learner": learner, "query": query, "start": "zero-shot", **changes}
    return ActiveSpec.model_validate(values)


@pytest.fixture(scope="module")
def begun(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_clip: Path,
    prefect_session: str,
    ray_session: str,
) -> tuple[Path, Path]:
    """Start rounds with a budget of ten labels, ask the first question; return (images, place)."""
    folder = tmp_path_factory.mktemp("rounds")
    images, place = write_images(folder), folder / "workspace"
    active = _active(images, place, tiny_clip)
    start_rounds(RoundsSpec(name=NAME, budget=10, active=active))
    active_round(here(str(place)), NAME)
    return images, place


@pytest.fixture
def place(begun: tuple[Path, Path], tmp_path: Path) -> str:
    """Return the workspace of rounds whose first question is open, moved to another place."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(begun[1], moved)
    return str(moved)


@pytest.fixture(scope="module")
def common(begun: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return such a workspace that several tests share, each with rounds of another name."""
    moved = tmp_path_factory.mktemp("common") / "workspace"
    shutil.copytree(begun[1], moved)
    return str(moved)


def here(place: str) -> RuntimeSpec:
    return RuntimeSpec(workspace=place)


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def _images(workspace: str) -> pa.Table:
    folder = min((Path(workspace) / "pool").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return pa.concat_tables(iter_tables(str(folder), ["image_id", "uri", "label"]))


def _pool(workspace: str) -> PoolRef:
    spec = open_rounds(here(workspace), NAME).spec.active.run
    return open_pool(spec.pool, spec.runtime)


def _truth(workspace: str) -> dict[str, str]:
    return {row["image_id"]: row["label"] for row in _images(workspace).to_pylist()}


def _write(path: Path, rows: dict[str, str]) -> str:
    lines = ["image_id,label", *(f"{image},{label}" for image, label in rows.items())]
    path.write_text("\n".join(lines))
    return str(path)


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
    rounds, truth = open_rounds(here(place), NAME), _truth(place)
    asked = read_query(rounds, 0)["image_id"].to_pylist()
    before = _times(Path(rounds.round_folder(0)))
    some = {image: truth[image] for image in asked[:3]} | {asked[3]: "skip"}
    answer_rounds(here(place), NAME, _write(tmp_path / "some.csv", some))
    again = answer_rounds(here(place), NAME, _write(tmp_path / "again.csv", some))
    assert any("before" in line for line in again)

    second = active_round(here(place), NAME)
    assert (second.number, second.num_labels, second.query_size) == (1, 3, PER_ROUND)
    assert second.churn is not None
    assert second.model_version == "2"
    later = read_query(open_rounds(here(place), NAME), 1)["image_id"].to_pylist()
    assert not set(later) & set(asked[:4]), "answered or skipped images are not asked again"

    answer_rounds(here(place), NAME, _write(tmp_path / "rest.csv", {i: truth[i] for i in later}))
    third = active_round(here(place), NAME)
    assert (third.num_labels, third.query_size) == (9, 1), "one label of the budget is left"
    assert before == _times(Path(rounds.round_folder(0))), "a round never changes"

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
    truth = _truth(place)
    with ThreadPoolExecutor(1) as threads:
        context = copy_context()  # with the address of the tests' Prefect server
        flow = threads.submit(context.run, active_rounds, here(place), NAME, wait="pause")
        for number in (0, 1):
            run = _paused(flow)
            asked = read_query(open_rounds(here(place), NAME), number)["image_id"].to_pylist()
            answers = {image: truth[image] for image in asked}
            answer_rounds(here(place), NAME, _write(tmp_path / f"{number}.csv", answers))
            resume_flow_run(run)
        last = flow.result(timeout=300)
    assert (last.number, last.num_labels, last.query_size) == (2, 10, 0)


def _paused(flow: Future[RoundState]) -> UUID:
    """Wait until Prefect has a paused run of the flow, and return its id."""
    paused = FlowRunFilter(state={"type": {"any_": [StateType.PAUSED]}})
    with get_client(sync_client=True) as client:
        for _ in range(3000):
            if found := client.read_flow_runs(flow_run_filter=paused):
                return found[0].id
            assert not flow.done(), flow.result()
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


def test_an_oracle_answers_until_the_budget_is_spent_and_nothing_is_computed_twice(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    last = active_rounds(here(place), NAME, oracle="column")
    assert (last.number, last.num_labels, last.query_size) == (2, 10, 0)
    rounds = open_rounds(here(place), NAME)
    assert rounds.finished
    asked = [i for n in (0, 1) for i in read_query(rounds, n)["image_id"].to_pylist()]
    assert len(asked) == len(set(asked)) == 10
    before = _times(Path(rounds.folder))
    assert active_rounds(here(place), NAME, oracle="column") == last
    assert before == _times(Path(rounds.folder))
    assert cli.run(["active", "status", "--workspace", place]) == 0
    command = capsys.readouterr().out.rpartition(": coft ")[2]
    assert f"--answers {rounds.folder} --workspace {place}" in command
    _, bound, _ = cli.app.parse_args(shlex.split(command))
    again = bound.arguments["about"].spec(Where(workspace=place))
    unsaid = {"command": "", "runtime": here(place)}
    run = rounds.spec.active.run.model_copy(update=unsaid)
    assert again.model_copy(update=unsaid) == run
    known = known_answers.fn(_pool(place), run.model_copy(update={"answers": rounds.folder}))
    assert known is not None
    labels = read_table(known.uri)
    assert sorted(labels["image_id"].to_pylist()) == sorted(asked)


def test_a_file_answers_what_was_asked_and_nothing_else(place: str, tmp_path: Path) -> None:
    table = _images(place)
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
    truth = _truth(place)
    assert all((kind == "skip") == (truth[image] == "blue") for image, kind in kinds.items())


def test_an_oracle_that_knows_none_of_those_asked_skips_them_and_one_of_others_is_refused(
    place: str, tmp_path: Path
) -> None:
    rounds, truth, pool = open_rounds(here(place), NAME), _truth(place), _pool(place)
    asked = read_query(rounds, 0)["image_id"].to_pylist()
    strange = _write(tmp_path / "strange.csv", {"0" * 32: "red"})
    with pytest.raises(InputError, match="expected labels of images of the pool"):
        answer_by_script.fn(rounds, strange, pool)
    images = pa.concat_tables(iter_tables(pool.uri, ["image_id", "split"]))
    others = images.filter(pc.equal(images["split"], "pool"))["image_id"].to_pylist()
    other = next(image for image in others if image not in asked)
    answer_by_script.fn(rounds, _write(tmp_path / "other.csv", {other: truth[other]}), pool)
    assert unanswered(open_rounds(here(place), NAME)) == 0


def test_answers_about_test_images_are_not_trained_on(place: str, tmp_path: Path) -> None:
    table = _images(place)
    everything = dict(zip(table["image_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    lines = answer_rounds(here(place), NAME, _write(tmp_path / "all.csv", everything))
    assert any("15" in line for line in lines), lines
    state = active_round(here(place), NAME)
    assert state.num_labels == 45
    assert state.query_size == 0


def test_other_images_under_running_rounds_are_refused(
    place: str, begun: tuple[Path, Path], tmp_path: Path
) -> None:
    images, truth = begun[0], _truth(place)
    asked = read_query(open_rounds(here(place), NAME), 0)["image_id"].to_pylist()
    answer_rounds(here(place), NAME, _write(tmp_path / "a.csv", {i: truth[i] for i in asked}))
    whole = images.read_bytes()
    pq.write_table(pq.read_table(images).slice(3), images)
    try:
        with pytest.raises(InputError, match="changed since they began"):
            active_round(here(place), NAME)
    finally:
        images.write_bytes(whole)


def test_a_round_that_was_cut_short_ends_as_it_would_have(place: str) -> None:
    whole = open_rounds(here(place), NAME).states[0]
    folder = Path(open_rounds(here(place), NAME).round_folder(0))
    query = pq.read_table(folder / "query.parquet")
    for name in ("state.json", "query.parquet", "scores/manifest.json"):
        (folder / name).unlink()
    again = active_round(here(place), NAME)
    assert again.model_copy(update={"seconds": whole.seconds}) == whole
    assert pq.read_table(folder / "query.parquet").equals(query)


@pytest.mark.parametrize(
    ("name", "start", "learner"),
    [
        ("features", "phase1", {}),
        ("maple", "zero-shot", {"kind": "maple", "coupled_depth": 1}),
        ("prompts", "phase1", {"images": "tower", "adapter": "vpt", "num_visual_prompts": 3}),
        ("again", f"models:/{NAME}-active/1", {}),
        ("lora", "MODEL", {"images": "tower", "adapter": "lora", "lora_rank": 2}),
    ],
)
def test_the_model_of_a_round_says_what_the_round_said(
    common: str,
    begun: tuple[Path, Path],
    tiny_clip: Path,
    name: str,
    start: str,
    learner: dict[str, object],
) -> None:
    start = start.replace("MODEL", f"{common}/rounds/{NAME}/round-00/model")
    active = _active(begun[0], Path(common), tiny_clip, start=start)
    active = active.model_copy(update={"learner": active.learner.model_copy(update=learner)})
    start_rounds(RoundsSpec(name=name, budget=10, active=active))
    state = active_round(here(common), name)
    folder = Path(open_rounds(here(common), name).round_folder(0))
    said = pa.concat_tables(iter_tables(str(folder / "scores")))
    assert said.num_rows == 60
    where = {row["image_id"]: row["uri"] for row in _images(common).to_pylist()}
    classifier = load_classifier(folder / "model")
    pixels = map_pixels(
        [where[image] for image in said["image_id"].to_pylist()],
        classifier.preprocess,
        max_pixels=active.run.pool.max_pixels,
    )
    found = classifier.probabilities(pixels)
    expected = torch.tensor(said["probabilities"].to_pylist())
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert state.model_version is not None
    assert not list(folder.glob("learner/resume*"))


def test_other_settings_under_the_same_name_are_refused(
    place: str, begun: tuple[Path, Path], tiny_clip: Path
) -> None:
    active = _active(begun[0], Path(place), tiny_clip)
    same = start_rounds(RoundsSpec(name=NAME, budget=10, active=active))
    assert same.number == 1
    with pytest.raises(InputError, match="budget"):
        start_rounds(RoundsSpec(name=NAME, budget=11, active=active))
    wrong = active.model_copy(update={"query": QuerySpec(strategy="best")})
    with pytest.raises(InputError, match="'best' is unknown"):
        start_rounds(RoundsSpec(name="others", budget=11, active=wrong))


def test_simulated_rounds_read_as_many_labels_as_they_ask_for(
    common: str, begun: tuple[Path, Path], tiny_clip: Path
) -> None:
    active = _active(begun[0], Path(common), tiny_clip, start="phase1")
    spec = SimulationSpec(
        active=active, strategies=("paper", "random"), num_seeds=2, rounds=2, per_round=PER_ROUND
    )
    found = simulate(spec)
    results = json.loads((Path(found.uri) / "results.json").read_text())
    assert set(results["lines"]) == {"paper", "random", "random labels only"}
    for line in results["lines"].values():
        assert set(line) == {"0", "1"}
        for rows in line.values():
            assert [row["num_labels"] for row in rows] == [0, PER_ROUND, 2 * PER_ROUND]
            assert all(0 <= row["accuracy"] <= 1 for row in rows)
    firsts = {line: rows["0"][0]["accuracy"] for line, rows in results["lines"].items()}
    assert len(set(firsts.values())) == 1, "without answers all lines are one"
    numbers, lines = read_findings(found)
    assert Path(numbers["report"]).stat().st_size > 10_000
    assert any(line.startswith("paper above random") for line in lines)
    assert simulate(spec).resumed


def test_a_simulation_needs_labels_and_known_strategies(
    images: Path, workspace: Path, tiny_clip: Path
) -> None:
    active = _active(images, workspace, tiny_clip)
    with pytest.raises(InputError, match=r"'best' is unknown.*badge"):
        simulate(SimulationSpec(active=active, strategies=("best",)))
