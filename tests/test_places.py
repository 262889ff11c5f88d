"""Places and names: each works from end to end, or is refused before any work."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from flows import cli
from tasks.active.rounds import open_rounds, read_query
from tasks.specs import RuntimeSpec
from tasks.storage.manifest import iter_tables
from tasks.storage.uris import local_path
from tasks.tracking.store import connect, tracking_for
from tests.worlds.commands import coft, ran
from tests.worlds.images import encoded_image
from tests.worlds.names import NAMES, write_named

LONG = "x" * 300
ODD = "50% off #1 'a' \"b\" : [br] {c} star*\nline -dash ü"  # of a folder or file
MODEL = "50 off - [br] {c} star* $HOME (ü) a&b"  # of a registered model

mlflow_warns = pytest.mark.filterwarnings(
    "ignore:.*Any type hint is inferred as AnyType", "ignore:Operation with range is deprecated"
)  # mlflow 3.17

# --- refused before any work ----------------------------------------------------------------------

ADAPT = ["adapt", "--images", "photos", "--classes", "a,b"]
START = ["active", "start", "--images", "photos", "--classes", "a,b", "--budget", "5"]
REFUSALS: list[tuple[list[str], str]] = [
    (["embed", "--images", "-photos"], "is written --option=-value"),
    (["embed", "--images=-photos"], "-photos: expected a folder"),
    (["embed", "--images", LONG], "File name too long"),
    (["embed", "--images", "/".join(["x" * 200] * 30)], "File name too long"),
    (["embed", "--images", "~nobody-is-called-so"], "no such path"),
    (["embed", "--images", "circle"], "no such path"),
    (["embed", "--images", "circles"], "expected images"),
    (["embed", "--images", "/dev/null"], "no such path"),
    (["embed", "--images", "caf\udce9"], r"caf\xe9: expected a folder"),
    ([*ADAPT[:3], "--classes", LONG], "--classes"),
    ([*ADAPT[:3], "--classes", "circle"], "--classes"),
    ([*ADAPT, "--labels", LONG], "got no such file"),
    ([*ADAPT, "--answers", LONG], "found nothing there"),
    ([*ADAPT[:3], "--classes", "pipe"], "got none"),
    ([*ADAPT[:3], "--classes", "/dev/zero"], "not a file"),
    ([*ADAPT, "--labels", "pipe"], "got an empty file"),
    ([*ADAPT, "--labels", "abc://x.csv"], "abc://x.csv: expected a file"),
    ([*ADAPT, "--answers", "abc://x.csv"], "abc://x.csv: cannot be looked into"),
    ([*ADAPT, "--summary", "pipe"], "expected a file"),
    ([*ADAPT, "--summary", "s3://bucket/x.json"], "got a URI"),
    ([*ADAPT, "--summary", "/proc/x.json"], "/proc cannot be written"),
    ([*ADAPT, "--summary", "photos"], "expected a file"),
    ([*ADAPT, "--summary", "dangling/x/s.json"], "dangling is no folder"),
    ([*ADAPT, "--summary", LONG], "at most 255 bytes"),
    ([*ADAPT, "--summary", "caf\udce9"], "UTF-8"),
    ([*ADAPT, "--workspace", "what?"], "'?'"),
    ([*ADAPT, "--workspace", "back\\\\slash*"], "backslash beside"),
    ([*ADAPT, "--workspace", "circle"], "circle is no folder"),
    ([*ADAPT, "--workspace", "dangling"], "dangling is no folder"),
    ([*ADAPT, "--workspace", "dangling/x"], "dangling is no folder"),
    ([*ADAPT, "--workspace", "/proc/x"], "/proc cannot be written"),
    ([*ADAPT, "--workspace", "/dev/null"], "/dev/null is no folder"),
    ([*ADAPT, "--workspace", LONG], "at most 255"),
    ([*ADAPT, "--workspace", "/".join(["x" * 100] * 5)], "at most 400 bytes"),
    ([*ADAPT, "--workspace", "caf\udce9"], "UTF-8"),
    ([*ADAPT, "--workspace", "file://host/x"], "expected file:///PATH"),
    ([*ADAPT, "--workspace", "abc://x"], "abc://x: cannot be looked into"),
    (["query", "select 1", "--workspace", "abc://x"], "abc://x: cannot be looked into"),
    (["clean", "--workspace", "abc://x"], "abc://x: cannot be looked into"),
    (["active", "next", "--workspace", "abc://x"], "abc://x: cannot be looked into"),
    (["demo", "--workspace", "caf\udce9"], "UTF-8"),
    (["query", "select 1", "--workspace", LONG], "found nothing"),
    (["models", "list", "--workspace", LONG], "too long"),
    (["active", "next", "--workspace", LONG], "at most 255"),
    (["active", "next", "--workspace", "photos", "--name", LONG], "No rounds named"),
    ([*START, "--name", LONG], "at most 100 characters"),
    ([*START, "--name", "../x"], "pattern"),
    ([*START, "--name", "x\n"], "pattern"),
    *(
        ([*ADAPT, f"--register={name}"], "expected a model name")
        for name in ("a@b", "a?b", "a#b", "a;b", "a\nb", "a`b", " a", "a ", ".a", "-a", LONG)
    ),
    ([*ADAPT, "--backbone", f"local-dir:{LONG}"], "does not exist"),
    ([*ADAPT, "--backbone", "local-dir:circle"], "local-dir:circle: expected a folder"),
    ([*ADAPT, "--backbone", "local-dir:~nobody-is-called-so"], "does not exist"),
    *(([*ADAPT, f"--backbone=hf-hub:{name}"], "hf-hub:ORG/NAME") for name in ("", "a/b/c", "a b")),
    (["predict", "--images", "photos", "--model", LONG], "expected models:/NAME"),
    (["predict", "--images", "photos", "--model", "abc://x"], "abc://x: cannot be looked into"),
    (["predict", "--images", "photos", "--model", f"models:/{LONG}/1"], "a model name"),
    (["predict", "--images", "photos", "--model", "models:/a\nb/1"], "a model name"),
]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return a folder with a photo, links that lead nowhere, and a pipe that nobody writes to."""
    write_named(tmp_path, b"photos", b"1")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circles").mkdir()
    (tmp_path / "circles" / "self.png").symlink_to("self.png")
    return tmp_path


def test_what_no_library_could_use_is_refused_before_any_is_loaded(here: Path) -> None:
    before = sorted(here.rglob("*"))
    environment = {"PREFECT_API_URL": "", "MLFLOW_TRACKING_URI": "", "COFT_WORKSPACE": "new"}
    results = ran([words for words, _ in REFUSALS], here, **environment)
    wrong = [
        (words, result)
        for (words, expected), result in zip(REFUSALS, results, strict=True)
        if result["code"] != cli.BAD_INPUT
        or expected not in str(result["said"])
        or "Run with --debug" in str(result["said"])
        or result["loaded"]
    ]
    assert wrong == []
    assert sorted(here.rglob("*")) == before, "what is refused makes nothing"


# --- works from end to end ------------------------------------------------------------------------


class Odd:
    """A folder of an odd name, and in it all that a run is about, with odd names too."""

    def __init__(self, folder: Path, clip: Path) -> None:
        self.home = folder / ODD
        self.images = self.home / f"back\\slash {ODD} images"
        self.workspace = self.home / f"{ODD} workspace"
        self.classes = self.home / f"back\\slash {ODD}.txt"
        self.summary = self.home / f"back\\slash {ODD}.json"
        self.clip = self.home / f"back\\slash {ODD} clip"
        self.adapting: list[object] = []  # the command of the run
        self.adapted: Any = None  # its summary
        self.images.mkdir(parents=True)
        for number, name in enumerate(NAMES):
            write_named(self.images, name, encoded_image(number))
        self.classes.write_text("red\ngreen\nblue\n")
        shutil.copytree(clip, self.clip)

    @property
    def kept(self) -> list[object]:
        """Where results go."""
        return ["--workspace", self.workspace, "--summary", self.summary]

    @property
    def about(self) -> list[object]:
        """What is adapted to, in as few steps as there can be."""
        words = ["--images", self.images, "--classes", self.classes, *self.kept]
        words += ["--backbone", f"local-dir:{self.clip}", "--label.top.per-class", 4]
        words += ["--label.top.min-total", 0, "--phase1.epochs", 2, "--phase1.min-steps", 0]
        return words

    def made(self) -> Any:
        """Return the summary of the last command."""
        return json.loads(self.summary.read_text())

    def ask(self, *words: object) -> list[dict[str, Any]]:
        """Return the rows that a question answers."""
        output = self.home / f"{ODD}.parquet"
        coft(*words, "--workspace", self.workspace, "--output", output)
        return pq.read_table(output).to_pylist()


@pytest.fixture(scope="module")
def odd(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_clip: Path,
    prefect_session: str,
    ray_session: None,
) -> Odd:
    odd = Odd(tmp_path_factory.mktemp("odd"), tiny_clip)
    phase2 = ["--phase2.epochs", 1, "--phase2.batch-size", 8, "--phase2.holdout", 0.2]
    odd.adapting = ["adapt", *odd.about, *phase2, "--register", MODEL]
    coft(*odd.adapting)
    odd.adapted = odd.made()
    return odd


@pytest.mark.timeout(600)
@mlflow_warns
def test_every_name_is_read_and_asked_about(odd: Odd) -> None:
    assert odd.adapted["num_images"] == len(NAMES)
    assert odd.adapted["num_quarantined"] == 0
    assert Path(odd.adapted["report"]).is_relative_to(odd.workspace)
    rows = odd.ask("query", "select images.uri from images join predictions using (image_id)")
    assert {os.fsencode(local_path(row["uri"]).parent.name) for row in rows} == set(NAMES)
    for row in rows:
        similar = odd.ask("similar", row["uri"], "--k", 3)
        assert row["uri"] not in [other["uri"] for other in similar]
        assert len(similar) == 3


@pytest.mark.timeout(600)
@mlflow_warns
def test_a_model_of_any_name_is_promoted_used_and_served(odd: Odd) -> None:
    coft("models", "promote", MODEL, "1", "--force", *odd.kept)
    assert odd.made()["uri"] == f"models:/{MODEL}/1"
    assert f"models:/{MODEL}/1 @champion" in coft("models", "list", "--workspace", odd.workspace)
    champion = f"models:/{MODEL}@champion"
    coft("predict", "--model", champion, "--images", f"{odd.images}/**/*.png", *odd.kept)
    predicted = pa.concat_tables(iter_tables(odd.made()["uri"])).to_pylist()
    assert len(predicted) == len(NAMES)
    with pytest.MonkeyPatch.context() as environment:  # as a server of a model has it
        environment.setenv("MLFLOW_TRACKING_URI", tracking_for(str(odd.workspace)).uri)
        served = mlflow.pyfunc.load_model(champion)
    image = local_path(predicted[0]["uri"]).read_bytes()
    answer = served.predict(pd.DataFrame({"image": [image]}))
    assert answer["label"].tolist() == [predicted[0]["label"]]


@pytest.mark.timeout(600)
@mlflow_warns
def test_rounds_about_odd_names_take_answers_from_an_odd_file(odd: Odd) -> None:
    words = ["--budget", 6, "--per-round", 3, "--strategy", "entropy", "--start", "zero-shot"]
    words += ["--learner.epochs", 1, "--learner.min-steps", 2, "--learner.top.per-class", 4]
    coft("active", "start", *odd.about, *words, "--learner.top.min-total", 0)
    name = odd.made()["name"]
    coft("active", "next", *odd.kept)
    rounds = open_rounds(RuntimeSpec(workspace=str(odd.workspace)), name)
    asked = read_query(rounds, 0)["uri"].to_pylist()
    answers = odd.home / f"back\\slash {ODD}.csv"
    pacsv.write_csv(pa.table({"uri": asked, "label": ["red"] * len(asked)}), answers)
    assert "3 answers, 3 new" in coft("active", "answer", answers, *odd.kept)
    coft("active", "next", *odd.kept)
    assert len(odd.made()["rounds"]) == 2


@pytest.mark.timeout(600)
@mlflow_warns
def test_an_interrupted_run_goes_on_where_its_workspace_was_copied_to(odd: Odd) -> None:
    here = odd.home / "moved 100%" / "here"
    shutil.copytree(odd.workspace, here)
    connect(tracking_for(str(here))).update_run(odd.adapted["run_id"], status="FAILED")
    before = {path for kind in ("parquet", "safetensors") for path in here.rglob(f"*.{kind}")}
    coft(*(here if word == odd.workspace else word for word in odd.adapting))
    after = {path for kind in ("parquet", "safetensors") for path in here.rglob(f"*.{kind}")}
    assert after == before, "nothing is computed again"
    assert odd.made()["run_id"] == odd.adapted["run_id"], "one run of MLflow"
    assert Path(odd.made()["report"]).is_relative_to(here)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", tracking_for(str(here)).uri)
        served = mlflow.pyfunc.load_model(f"models:/{MODEL}/1")
    assert len(served.predict(pd.DataFrame({"image": [encoded_image(1)]}))) == 1
