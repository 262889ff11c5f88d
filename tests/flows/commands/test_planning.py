"""The plan is told before the work; `--dry-run` ends there and leaves nothing behind."""

import json
from pathlib import Path

import pytest

from flows import cli
from tests.flows.commands.conftest import Refused

CLASSES = ["--classes", "cat,dog"]
COMMANDS = {
    "adapt": ["adapt", *CLASSES],
    "embed": ["embed"],
    "start": ["active", "start", *CLASSES, "--budget", "10"],
    "simulate": ["active", "simulate", *CLASSES, "--labels", "folders"],
}


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_dry_run_tells_and_writes_nothing(
    command: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "notes.txt").write_text("")
    before = names(tmp_path)
    words = [*COMMANDS[command], "--images", str(photos)]
    words += ["--workspace", str(tmp_path / "place"), "--dry-run"]
    assert cli.run(words) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 10
    assert lines[0] == f"images     2: 2 .png{'' if command == 'embed' else ' to learn from'}"
    assert lines[1] == "skipped    1 .txt"
    assert ("classes    2: 'cat', 'dog'" in lines[2]) == (command != "embed")
    assert lines[-2].startswith(f"results    {tmp_path / 'place'} (new)")
    assert lines[-1] == "reuses     nothing, all is computed"
    assert names(tmp_path) == before
    assert cli.run([*words, "--summary", str(tmp_path / "made" / "facts.json")]) == cli.DONE
    assert names(tmp_path) - before == {"made", "made/facts.json"}
    plan = json.loads((tmp_path / "made" / "facts.json").read_text())["plan"]
    assert plan["images"]["by_split"] == {"pool": {".png": 2}}
    assert plan["images"]["skipped"] == {".txt": 1}


def test_a_dry_run_of_the_demo_draws_its_digits_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["demo", "--workspace", str(tmp_path / "place"), "--dry-run"]) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "images     1,797 rows of 1 Parquet file: 1,297 to learn from, 500 for testing"
    )
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--classes", "cat"], "at least two"),
        ([*CLASSES, "--labels", "nowhere.csv"], "nowhere.csv"),
        ([*CLASSES, "--backbone", "ViT-B-61/openai"], "is unknown"),
        ([*CLASSES, "--workspace", "FILE"], "is a file"),
        ([*CLASSES, "--register", "a/b"], "'a/b'"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(
    words: list[str], expected: str, photos: Path, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "file").write_text("")
    words = [str(tmp_path / "file") if word == "FILE" else word for word in words]
    assert expected in refused(["adapt", "--images", str(photos), "--dry-run", *words])


def test_rounds_that_cannot_be_written_down_have_no_plan(
    photos: Path, tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    start = [*COMMANDS["start"], "--images", str(photos), "--workspace", str(tmp_path / "place")]
    assert cli.run(start) == cli.DONE
    assert "classes    2: 'cat', 'dog'" in capsys.readouterr().out
    assert "with other settings" in refused([*start, "--seed", "1", "--dry-run"])
    assert cli.run([*start, "--dry-run"]) == cli.DONE


def test_a_dry_run_predicts_nothing_with_a_model_that_is_there(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    words = ["predict", "--images", str(photos), "--workspace", str(tmp_path / "place")]
    assert cli.run([*words, "--model", str(tmp_path / "model"), "--dry-run"]) == cli.DONE
    assert f"model      {tmp_path / 'model'}" in capsys.readouterr().out.splitlines()
    assert not (tmp_path / "place").exists()
