"""Every command, once, through the command line, in one workspace; `test_readme` counts on it."""

import json
import os
import pickle
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from tasks.active.rounds import open_rounds, read_query
from tasks.compute.calls import run_tasks
from tasks.specs import RuntimeSpec
from tasks.storage.manifest import iter_tables, read_manifest
from tasks.tracking.store import tracking_for
from tasks.tracking.versions import list_models
from tests.worlds.commands import Place, coft
from tests.worlds.feature_files import rows_of, write_rows
from tests.worlds.images import COLOURS, PER_CLASS, write_images
from tests.worlds.libra_model import write_language
from tests.worlds.llm import serving, writes
from tests.worlds.object_store import bytes_taken_in
from tests.worlds.pickles import is_pickle
from tests.worlds.served import free_port

NUM_IMAGES = PER_CLASS * len(COLOURS)
PER_ROUND = 6
CANARY = "canary-5d1e07b2"
SECRETS = ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "COFT_ENDPOINT_KEY")
MODEL = "colours"
LEAST_OF_AN_ARRAY = 100 * 1024  # bytes of a result from which on Ray puts it into its object store
PHASE_2 = ["--phase2.epochs", 1, "--phase2.batch-size", 8, "--phase2.holdout", 0.2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("prefect_session", "ray_session"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),  # mlflow 3.17
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),  # mlflow 3.17
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("commands")
    write_images(folder)
    with pytest.MonkeyPatch.context() as environment:
        for name in SECRETS:
            environment.setenv(name, CANARY)
        yield Place(folder, tiny_clip)


@pytest.fixture(scope="module")
def adapted(place: Place, prefect_session: str, ray_session: None) -> dict[str, Any]:
    """Register two models of the drawn images; return the summary of the first."""
    printed = coft("adapt", *place.about, *PHASE_2, "--register", MODEL)
    summary: dict[str, Any] = place.made()
    assert printed.startswith(f"images     {NUM_IMAGES} rows of 1 Parquet file: 45 to learn from")
    assert printed.endswith(f"files      {NUM_IMAGES} images, 0 quarantined, 0 skipped\n")
    assert summary["model_uri"] in printed
    assert f"{summary['accuracy']:.3f}" in printed
    coft("adapt", *place.data, "--method", "zero-shot", "--register", MODEL)
    assert place.made()["model_uri"] == f"models:/{MODEL}/2"
    return summary


@pytest.fixture(scope="module")
def asked(adapted: dict[str, Any], place: Place) -> list[object]:
    """Return what a question is about: the first task with labels, that of `adapted`."""
    folders = sorted((place.workspace / "tasks").iterdir(), key=lambda path: path.stat().st_ctime)
    manifests = [read_manifest(str(path)) for path in folders]
    task = next(found.digest for found in manifests if found and found.rows == NUM_IMAGES)
    return ["--workspace", place.workspace, "--pool", task]


def _rows(folder: str, *columns: str) -> pa.Table:
    return pa.concat_tables(iter_tables(folder, list(columns)))


def _aliases(place: Place) -> dict[str, str]:
    found = list_models(tracking_for(str(place.workspace)), MODEL)
    return {alias: model.version for model in found for alias in model.aliases}


# --- adapt, and what is done with a model ---------------------------------------------------------


def test_adapt(adapted: dict[str, Any], place: Place) -> None:
    assert adapted["num_images"] == NUM_IMAGES
    assert set(adapted["per_class"]) == set(COLOURS)
    assert adapted["model_uri"] == f"models:/{MODEL}/1"
    splits = {"pool": {".parquet": NUM_IMAGES * 3 // 4}, "test": {".parquet": NUM_IMAGES // 4}}
    assert adapted["plan"]["images"]["by_split"] == splits
    assert adapted["plan"]["results"]["register_as"] == MODEL
    assert adapted["files"] == {"num_images": NUM_IMAGES, "quarantined": {}, "skipped": {}}
    assert Path(adapted["report"]).is_relative_to(place.workspace)
    assert Path(adapted["report"]).stat().st_size > 10_000
    assert f"{NUM_IMAGES} rows of 1 Parquet file" in Path(adapted["report"]).read_text()


def test_what_a_run_has_finished_is_what_an_equal_one_reuses(
    adapted: dict[str, Any], place: Place
) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.workspace.rglob("*")}
    coft("adapt", *place.about, *PHASE_2, "--register", "other", "--dry-run")
    reused = place.made()["plan"]["reused"]
    assert (reused["embeddings"], reused["of_these"]) == (NUM_IMAGES, True)
    assert reused["steps"][:3] == ["images", "task", "embed pool"]
    assert {"adapt peers", "cross-filter", "fine-tune", "predict"} < set(reused["steps"])
    coft("adapt", *place.about, *PHASE_2, "--seed", "7", "--dry-run")
    reused = place.made()["plan"]["reused"]
    assert (reused["embeddings"], reused["steps"]) == (NUM_IMAGES, [])
    assert {path: path.stat().st_mtime_ns for path in place.workspace.rglob("*")} == before


def test_nightly(adapted: dict[str, Any], place: Place) -> None:
    words = [*place.about, *PHASE_2, "--register", "nights", "--gate.max-lost-classes", 9]
    words += ["--gate.min-agreement", 0, "--gate.max-drift", 1, "--gate.min-kept-share", 0]
    assert "the first that are adapted to" in coft("nightly", *words)
    first = place.made()
    assert first["adapted"]["accuracy"] == adapted["accuracy"]
    assert first["decision"]["promoted"] is first["adapted"]["healthy"]
    assert "Adaptation and gate" in Path(first["digest"]).read_text()
    assert f"0 of {NUM_IMAGES} images are new" in coft("nightly", *words)
    assert place.made()["adapted"] is None


def test_embed(place: Place) -> None:
    backbone = f"local-dir:{place.clip}"
    printed = coft("embed", "--images", place.images, "--backbone", backbone, *place.kept)
    made = place.made()
    assert printed.splitlines()[-2:] == [
        f"{NUM_IMAGES} embeddings of 32 dimensions in {made['uri']}",
        f"files      {NUM_IMAGES} images, 0 quarantined, 0 skipped",
    ]
    assert made["files"] == {"num_images": NUM_IMAGES, "quarantined": {}, "skipped": {}}
    assert (made["rows"], made["dim"]) == (NUM_IMAGES, 32)
    parts = Path(made["uri"]).glob("part-*.parquet")
    features = pa.concat_tables(pq.read_table(part) for part in parts)["embedding"]
    assert [len(feature) for feature in features] == [32] * NUM_IMAGES


def test_templates(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-a-secret-of-this-test"
    monkeypatch.setenv("COFT_ENDPOINT_KEY", key)
    (tmp_path / "own.json").write_text('{"red": ["a red shape.", "crimson"]}')
    backbone = ["--backbone", f"local-dir:{place.clip}"]
    words = ["--images", place.images, "--classes", ",".join(COLOURS), *backbone, *place.kept]
    words += ["--rows-per-shard", 16]  # the parts of the other tests
    words += ["--from", tmp_path / "own.json", "--model", "m", "--endpoint"]
    with serving(writes("a red shape.", "a green shape.", f"a blue {key}.")) as server:
        printed = coft("templates", *words, server.url).splitlines()
    made = place.made()
    names = [row["name"] for row in made["candidates"]]
    assert names == ["plain", "synonyms", "file", "endpoint"]
    assert len(server.requests) == made["asked"]["num_calls"] == len(COLOURS)
    assert [line[2:].split()[0] for line in printed[-7:-2]] == ["sentences", *names]
    assert printed[-2:] == [f"chosen     {made['why']}", f"file       {made['file']}"]
    coft("adapt", *place.data, "--method", "zero-shot", "--templates", made["file"])
    report = Path(place.made()["report"]).read_text()
    assert "Class sentences" in report
    assert "Write 5 different captions" in report
    for folder in (place.workspace, Path(os.environ["PREFECT_HOME"])):
        with_key = [path for path in folder.rglob("*") if path.is_file() and _holds(path, key)]
        assert with_key == []


def test_no_file_is_a_pickle_or_holds_a_secret(adapted: dict[str, Any], place: Place) -> None:
    files = [path for path in place.workspace.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".db", ".html", ".json", ".parquet", ".safetensors"}
    assert [path for path in files if is_pickle(path.read_bytes())] == []
    assert [path for path in files if _holds(path, CANARY)] == []
    assert is_pickle(pickle.dumps({"a": [1]}))


def _holds(path: Path, text: str) -> bool:
    return text.encode() in path.read_bytes()


def test_predict(adapted: dict[str, Any], place: Place, tmp_path: Path) -> None:
    few = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(place.images).slice(0, 7).select(["image"]), few)
    model = adapted["model_uri"]
    printed = coft("predict", "--model", model, "--images", few, *place.kept)
    made = place.made()
    assert f"\n7 predictions in {made['uri']}\nnone_of_these is the share of " in printed
    assert "\nfiles      7 images, " in printed
    assert made["plan"]["model"] == model
    assert set(_rows(made["uri"], "label")["label"].to_pylist()) <= set(COLOURS)
    printed = coft("predict", "--model", model, "--images", few, "--review-below", 1, *place.kept)
    assert "images of the model's own pool, that it was not trained on" in printed
    assert "\n7 to look at in " in printed
    review = Path(place.made()["uri"], "review")
    assert (review / "contact-sheet.html").read_text().count("<article") == 7
    assert len(json.loads((review / "label-studio" / "tasks-0001.json").read_text())) == 7


def test_serve(adapted: dict[str, Any], place: Place) -> None:
    port, answers = free_port(), list[Any]()
    image = pq.read_table(place.images).slice(0, 1)["image"][0].as_py()
    client = Thread(target=_ask_and_stop, args=(port, image, answers))
    client.start()
    words = ["--model", adapted["model_uri"], "--workspace", place.workspace]
    coft("serve", *words, "--port", port, "--image-hosts", "images.example")
    client.join()
    assert answers[0]["predictions"][0]["label"] in COLOURS


def _ask_and_stop(port: int, image: bytes, answers: list[Any]) -> None:
    """Ask as soon as there is a server, then stop it as a supervisor does."""
    url = f"http://127.0.0.1:{port}/invocations"
    request = urllib.request.Request(url, image, {"Content-Type": "image/jpeg"})
    deadline = monotonic() + 120
    while not answers and monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            answers.append(json.load(answer))
        sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.* is deprecated")
def test_export(adapted: dict[str, Any], place: Place, tmp_path: Path) -> None:
    words = ["--model", adapted["model_uri"], "--format", "torchscript", "--to", tmp_path]
    printed = coft("export", *words, *place.kept)
    assert place.made()["files"] == printed.splitlines()
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "model.json", "predict.py"}


def test_models(adapted: dict[str, Any], place: Place) -> None:
    printed = coft("models", "list", MODEL, "--workspace", place.workspace)
    assert [line.split()[0] for line in printed.splitlines()] == [
        f"models:/{MODEL}/2",
        f"models:/{MODEL}/1",
    ]
    for version in ("1", "2"):
        coft("models", "promote", MODEL, version, "--force", *place.kept)
        made = place.made()
        assert (made["uri"], made["version"]) == (f"models:/{MODEL}/{version}", version)
        assert _aliases(place)["champion"] == version
    printed = coft("models", "rollback", MODEL, *place.kept)
    assert printed == f"champion is {place.made()['uri']}\n"
    assert _aliases(place)["champion"] == "1"
    about = ["--images", place.images, "--labels", "column", "--force", *place.kept]
    assert "Version 2 is the champion" in coft("models", "promote", MODEL, "2", *about)
    seen = place.made()["comparison"]
    assert seen["num_labelled"] == NUM_IMAGES // 4
    assert seen["accuracy"] == pytest.approx(adapted["zero_shot_accuracy"])
    assert seen["champion_accuracy"] == pytest.approx(adapted["accuracy"])
    assert _aliases(place) == {"champion": "2", "previous": "1"}


def test_demo(tmp_path: Path) -> None:
    workspace, summary = tmp_path / "demo", tmp_path / "demo.json"
    before = bytes_taken_in()
    printed = coft("demo", "--workspace", workspace, "--summary", summary, "--seed", 0)
    made = json.loads(summary.read_text())
    assert f"report     {made['report']}" in printed
    assert Path(made["report"]).is_relative_to(workspace)
    assert made["num_images"] == 1797
    assert made["accuracy"] > made["zero_shot_accuracy"] > 0.6
    assert made["model_uri"] == "models:/coft-demo/1"
    assert bytes_taken_in() - before < LEAST_OF_AN_ARRAY
    # The other way round: this is how it would be seen.
    ((_, digits),) = run_tasks(np.zeros, [((made["num_images"], 32, 32),)], runtime=RuntimeSpec())
    assert bytes_taken_in() - before > digits.nbytes


# --- questions ------------------------------------------------------------------------------------


def test_query(asked: list[object]) -> None:
    printed = coft("query", "select label, count(*) from labels group by 1", *asked)
    assert any(colour in printed for colour in COLOURS)


def test_questions_about_images(asked: list[object], place: Place, tmp_path: Path) -> None:
    answer = tmp_path / "answer.csv"
    asked = [*asked, "--output", answer]
    image = _rows(str(place.workspace / "tasks" / str(asked[3])), "image_id")["image_id"][0].as_py()
    coft("similar", image, "--k", 5, *asked)
    assert pacsv.read_csv(answer).num_rows == 5
    coft("duplicates", "--threshold", 0.01, *asked)
    assert pacsv.read_csv(answer).num_rows > 0
    coft("outliers", "--k", 4, *asked)
    assert pacsv.read_csv(answer).num_rows == 4
    coft("disagreements", *asked)
    assert "image_id" in pacsv.read_csv(answer).column_names


def test_doctor(tmp_path: Path) -> None:
    printed = coft("doctor", "--backbone", "embedded", "--workspace", tmp_path)
    assert "embedded" in printed
    assert list(tmp_path.iterdir()) == []


def test_clean(adapted: dict[str, Any], place: Place) -> None:
    printed = coft("clean", *place.kept)
    assert "in all" in printed
    assert place.made() == {"removed": False, "files": []}, "the runs in it have ended"
    stopped = place.workspace / "peers" / "stopped" / "resume.safetensors"
    stopped.parent.mkdir()
    stopped.touch()
    assert "a run may be at work" in coft("clean", "--remove", *place.kept)
    assert stopped.exists()
    assert "Removed" in coft("clean", "--remove", "--older-than-hours", 0, *place.kept)
    assert not stopped.parent.exists()


# --- rounds ---------------------------------------------------------------------------------------


def test_rounds_with_a_person(place: Place, tmp_path: Path) -> None:
    words = ["--budget", 2 * PER_ROUND, "--per-round", PER_ROUND, "--max-similarity", 1]
    words += ["--name", "asked", "--strategy", "entropy", "--smallest-gain", 0.02]
    coft("active", "start", *place.about, *place.learner, *words, "--register", "asked")
    made = place.made()
    assert (made["name"], made["rounds"], made["finished"]) == ("asked", [], False)

    named = ["--name", "asked", *place.kept]
    coft("active", "next", *named)
    made = place.made()
    assert (len(made["rounds"]), made["num_unanswered"]) == (1, PER_ROUND)
    rounds = open_rounds(RuntimeSpec(workspace=str(place.workspace)), "asked")
    assert rounds.spec.active.query.strategy == "entropy"
    assert rounds.spec.smallest_gain == 0.02
    query = read_query(rounds, 0)["image_id"].to_pylist()
    assert len(query) == PER_ROUND

    answers = tmp_path / "answers.csv"
    lines = [f"{image},{colour}" for image, colour in zip(query[:3], COLOURS, strict=True)]
    answers.write_text("\n".join(["image_id,label", *lines]))
    printed = coft("active", "answer", answers, *named)
    assert "3 answers, 3 new" in printed
    made = place.made()
    assert (made["answers"]["num_new"], made["num_unanswered"]) == (3, PER_ROUND - 3)

    coft("active", "next", *named)
    assert place.made()["rounds"][1]["num_labels"] == 3
    printed = coft("active", "status", "--name", "asked", "--workspace", place.workspace)
    assert "round 1, 3 answers" in printed
    assert list_models(tracking_for(str(place.workspace)), "asked")
    page = (place.workspace / "rounds" / "asked" / "report.html").read_text()
    assert f"<dt>Images</dt><dd>{NUM_IMAGES} rows of 1 Parquet file: " in page


def test_rounds_with_an_oracle(place: Place) -> None:
    words = ["--budget", PER_ROUND, "--per-round", PER_ROUND, "--name", "known"]
    coft("active", "start", *place.about, *place.learner, *words)
    printed = coft("active", "run", "--oracle", "column", "--name", "known", *place.kept)
    made = place.made()
    assert made["finished"]
    assert [state["num_labels"] for state in made["rounds"]] == [0, PER_ROUND]
    assert f"coft adapt --images {place.images}" in printed


def test_simulated_rounds(place: Place) -> None:
    words = ["--strategies", "entropy,random", "--seeds", 1, "--rounds", 1, "--with-coft"]
    coft("active", "simulate", *place.about, *place.learner, *words, "--per-round", PER_ROUND)
    made = place.made()
    assert Path(made["report"]).stat().st_size > 10_000
    assert {"entropy", "random"} <= set(made["lines"])


def test_methods_side_by_side(place: Place) -> None:
    printed = coft("compare", *place.data, "--methods", "fast,zero-shot", "--seeds", 1)
    assert [one["method"] in printed for one in place.made()["results"]] == [True, True]


def test_modalities_are_learned_one_after_another(place: Place) -> None:
    state = place.folder / "state"
    for name in ("photo", "sound"):
        rows = write_rows(place.folder / f"{name}.parquet", rows_of(name))
        words = ["--state", state, "--modality", name, "--embeddings", rows, "--training.steps", 9]
        words += ["--backbone", f"local-dir:{place.clip}", *place.kept]
        printed = coft("harmony", "learn", *words)
    assert "after stage    photo    sound" in printed
    assert place.made()["stage"]["model_uri"] == "models:/state/2"
    shown = coft("harmony", "show", "--state", state, *place.kept)
    assert [one["modality"] for one in place.made()["modalities"]] == ["photo", "sound"]
    assert f"report     {state}/report.html" in shown
    words = ["--model", "models:/state@candidate", "--embeddings", rows, *place.kept]
    assert "sound: 90 samples, mean certainty 1.000" in coft("harmony", "predict", *words)


def test_captions(place: Place) -> None:
    llm = write_language(place.folder / "llm", tokens=("Ġthe",))
    words = ["--llm", f"local-dir:{llm}", "--vision.side", 2, "--training.steps", 3]
    printed = coft("describe", *place.about[:-6], *words)
    assert f"captions   {NUM_IMAGES} in {place.made()['captions']}" in printed
