"""The entrance of the command line: what comes at once, and what stops it."""

import json
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from PIL import Image

from flows import cli
from tasks.compute.workers import stop_workers
from tests.worlds.cluster import occupy
from tests.worlds.commands import ran
from tests.worlds.processes import Family

ROOT = Path(__file__).parents[2]


def test_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["adapt", "--imagse", "x"]) == cli.BAD_INPUT
    assert "imagse" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == cli.DONE
    said = capsys.readouterr().out
    for name in ("adapt", "embed", "predict", "query", "similar", "models", "demo", "doctor"):
        assert name in said


# --- what is told before anything that takes seconds is loaded ------------------------------------

ADAPT = "adapt --images photos --classes cat,dog"
START = "active start --images photos --classes cat,dog --budget 10"
REFUSALS = {
    "adapt --imagse x": "--imagse",
    "adapt --images /nowhere --classes cat,dog": "/nowhere",
    "adapt --images nosuch://bucket --classes cat,dog": "nosuch",
    "adapt --images gs://bucket --classes cat,dog": "gcsfs",
    "adapt --images photos --classes nowhere.txt": "nowhere.txt",
    "adapt --images photos --classes twice.txt": "'cat' in line 1 and 'Cat' in line 3",
    "adapt --images photos --classes two.csv": "--class-column",
    "adapt --images photos --classes two.csv --class-column 3": "no column '3'",
    "adapt --images photos --labels other.csv": "1 of 3 labels can be used",
    "adapt --images photos --labels other.csv --label-columns 1": "--label-columns 1",
    "adapt --images photos --classes cat,dog --split-folders yes": "no first folder called",
    "adapt --images photos --classes cat,dog --labels nowhere.csv": "nowhere.csv",
    "adapt --images photos --classes cat,dog --labels words.csv": "words.csv",
    f"{ADAPT} --phase1.epochs -3": "--phase1.epochs",
    f"{ADAPT} --phase2.epohs 3": "--phase2.epochs",
    f"{ADAPT} --method fast --phase2.epochs 3": "--phase2.epochs: --method fast",
    f"{ADAPT} --answers nowhere.csv": "nowhere.csv",
    f"{ADAPT} --answers words.csv": "words.csv",
    f"{ADAPT} --answers other.csv": "--allow-partial-labels",
    f"{ADAPT} --register a/b": "'a/b'",
    f"{ADAPT} --backbone ViT-B-61/openai": "is unknown",
    f"{ADAPT} --backbone ViT-B-16/openia": "names no known weights",
    f"{ADAPT} --backbone RN50/openai": "not supported",
    f"{ADAPT} --backbone local-dir:nowhere": "does not exist",
    f"{ADAPT} --backbone local-dir:siglip": "not supported",
    f"{ADAPT} --backbone local-dir:weightless": "expected weights",
    f"{ADAPT} --backbone embedded:nothing": "nothing",
    f"{ADAPT} --workspace file": "file",
    f"{ADAPT} --workspace what?": "'?'",
    f"{ADAPT} --ray-address CLOSED": "does not answer",
    "embed --images /nowhere": "/nowhere",
    "embed --images photos --backbone ViT-B-61/openai": "is unknown",
    "embed --images photos --workspace file": "file",
    "embed --images photos --ray-address CLOSED": "does not answer",
    "predict --images /nowhere --model models:/photos/1": "/nowhere",
    "predict --images photos --model models:/photos/1": "no model 'photos'",
    "predict --images photos --model nowhere": "nowhere",
    "demo --workspace file": "file",
    f"{START} --learner.kind vpt": "--learner.kind vpt",
    f"{START} --start phase2": "--start phase2",
    f"{START} --start models:/nobody@champion": "no model 'nobody'",
    f"{START} --strategy best": "strategy 'best' is unknown",
    f"{START} --register a/b": "'a/b'",
    f"{START} --workspace file": "file",
    f"{ADAPT.replace('adapt', 'compare')} --methods zlap --phase1.epochs 3": "--methods zlap",
    f"{ADAPT.replace('adapt', 'compare')} --methods zlap --shots 3": "--shots",
    "active next": "no rounds",
    "active next --name nobody": "nobody",
    "active answer words.csv": "no rounds",
    "active status": "no rounds",
    "active run --oracle column": "no rounds",
    "active simulate --images photos --classes cat,dog": "--labels",
    "active simulate --images photos --labels folders --strategies best": "strategy 'best'",
    "harmony learn --state new --modality photo --images photos": "learns from labels",
    "harmony learn --state new --modality photo --embeddings photos": "found none",
    "harmony predict --state photos --images photos": "found no finished stage",
    "harmony predict --model models:/nobody/1 --embeddings photos": "no model 'nobody'",
    "harmony show --state photos": "found no finished stage",
    "models --lits": "--lits",
    "models list nobody": "no model 'nobody'",
    "models promote nobody": "no model 'nobody'",
    "models rollback nobody": "no model 'nobody'",
    "query --sqll x": "--sqll",
    "query select --workspace nothing": "nothing",
    "similar x --workspace nothing": "nothing",
    "duplicates --workspace nothing": "nothing",
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with photos and with files that are wrong in a way of their own each."""
    folder = tmp_path
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "photos" / name / "1.png")
    (folder / "file").write_text("")
    (folder / "twice.txt").write_text("cat\ndog\nCat\n")
    (folder / "two.csv").write_text("cat,Katze\ndog,Hund\n")
    (folder / "other.csv").write_text("uri,label\ncat/1.png,cat\nx.png,dog\ny.png,dog\n")
    (folder / "words.csv").write_text("some\nwords\n")
    for name, tokenizer in (("siglip", {"hf_tokenizer_name": "x"}), ("weightless", {})):
        model = {"embed_dim": 8, "vision_cfg": {"layers": 1}, "text_cfg": tokenizer}
        (folder / name).mkdir()
        (folder / name / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    return folder


def test_a_mistake_does_not_wait_for_what_is_slow_to_import(place: Path, closed: str) -> None:
    commands = [words.replace("CLOSED", closed).split() for words in REFUSALS]
    environment = {"PREFECT_API_URL": "", "MLFLOW_TRACKING_URI": "", "COFT_WORKSPACE": "new"}
    found = dict(zip(REFUSALS, ran(commands, place, **environment), strict=True))
    wrong = {
        words: result
        for words, result in found.items()
        if result["code"] != cli.BAD_INPUT
        or REFUSALS[words] not in str(result["said"])
        or result["loaded"]
    }
    assert wrong == {}
    assert not (place / "new").exists(), "what is refused makes nothing"


@pytest.mark.parametrize("variable", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_a_server_that_does_not_answer_is_told_at_once(
    variable: str, place: Path, closed: str
) -> None:
    environment = {"PREFECT_API_URL": "", variable: f"http://{closed}/api"}
    (result,) = ran([f"{ADAPT} --workspace new".split()], place, **environment)
    assert result["code"] == cli.BAD_INPUT
    assert f"{closed}/api does not answer" in str(result["said"])
    assert result["loaded"] == []


def test_what_only_reads_does_not_wait_either(place: Path) -> None:
    started = f"{START} --name photos --workspace made".split()
    commands = ["--help", "adapt --help", "active start --help", "models --help", "doctor --help"]
    commands += ["active status --workspace made", "models list --workspace made"]
    commands += ["doctor --workspace made"]
    commands += [f"{words} --dry-run" for words in (ADAPT, START, "embed --images photos")]
    results = ran([started, *map(str.split, commands)], place, PREFECT_API_URL="")
    assert [result["code"] for result in results] == [cli.DONE] * len(results)
    assert [result["loaded"] for result in results] == [[]] * len(results)
    assert "Next, the first question" in str(results[6]["said"])
    assert "No model is registered" in str(results[7]["said"])


def test_a_name_for_people_is_made_of_what_means_nothing_elsewhere() -> None:
    from flows.commands.options import name_from

    assert name_from("s3://bucket/50% off/", otherwise="coft") == "50-off"
    assert name_from("photos/a:b?.parquet", otherwise="coft") == "a-b"
    assert name_from("photos/*", otherwise="coft") == "coft"


@pytest.fixture
def closed() -> str:
    """Return an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_the_version_is_that_of_coft(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == cli.DONE
    assert capsys.readouterr().out.strip() == metadata.version("coft")


def test_a_cluster_without_room_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path,
    images: Path,
    tiny_clip: Path,
    prefect_session: str,
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import ray

    words = ["embed", "--images", str(images), "--backbone", f"local-dir:{tiny_clip}"]
    words += ["--workspace", str(tmp_path / "workspace")]
    stop_workers()
    occupant = occupy(2)
    try:
        assert cli.run([*words, "--wait-minutes", "0.02"]) == cli.FAILED
    finally:
        ray.kill(occupant)
    said = capsys.readouterr().err
    assert "coft: Waited 0.02 minutes for 2 workers" in said
    assert "What is finished is kept" in said
    assert cli.run(words) == cli.DONE
    assert "60 embeddings" in capsys.readouterr().out


@pytest.mark.slow
def test_nothing_of_a_command_is_left_when_it_is_killed(
    tmp_path: Path, images: Path, tiny_clip: Path
) -> None:
    words = ["embed", "--images", str(images), "--backbone", f"local-dir:{tiny_clip}"]
    words += ["--workspace", str(tmp_path / "workspace")]
    family = Family()
    own = {"PREFECT_API_URL": "", "PYTHONPATH": str(ROOT)}  # a server of its own
    command = [sys.executable, "-c", "from flows.cli import main; main()", *words]
    with subprocess.Popen(command, env={**family.environment, **own}, cwd=tmp_path) as process:
        try:
            family.wait_for("prefect_process.py")
            family.wait_for("ray::Worker")
        finally:
            process.kill()
    assert family.survivors() == []
