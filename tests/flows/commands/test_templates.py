"""Class sentences by the command line: what cannot be used is told before anything begins."""

from pathlib import Path

import pytest

from flows import cli
from tests.flows.commands.conftest import Refused

CLASSES = ["--classes", "cat,dog"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--from", "FILE"], "--from"),
        (["--from", "nowhere.json"], "no such file"),
        (["--endpoint", "https://host/v1"], "--model NAME belong together"),
        (["--model", "m"], "--model NAME belong together"),
        (["--endpoint", "https://me:hush@host/v1", "--model", "m"], "COFT_ENDPOINT_KEY"),
        (["--endpoint", "host", "--model", "m"], "https://host/v1"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--model", "m"], "nobody answers"),
        (["--endpoint", "https://host/v1", "--model", "m", "--max-calls", "0"], "greater than 0"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_cannot_be_used_is_refused(
    words: list[str], expected: str, more: list[str], photos: Path, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "own.json").write_text('{"horse": ["pony"]}')
    words = [str(tmp_path / "own.json") if word == "FILE" else word for word in words]
    place = ["--workspace", str(tmp_path / "place")]
    said = refused(["templates", "--images", str(photos), *CLASSES, *place, *words, *more])
    assert expected in said
    assert "hush" not in said
    assert not (tmp_path / "place").exists()


def test_sentences_that_cannot_be_used_stop_an_adaptation(photos: Path, refused: Refused) -> None:
    words = ["adapt", "--images", str(photos), *CLASSES]
    said = refused([*words, "--templates", "nowhere.json"])
    assert "--templates nowhere.json: no such file" in said
    said = refused([*words, "--method", "coft-plus", "--sentences.file", "nowhere.json"])
    assert "--sentences.file nowhere.json: no such file" in said


def test_a_dry_run_tells_what_it_is_about(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["templates", "--images", str(photos), *CLASSES, "--dry-run"]
    assert cli.run([*words, "--workspace", str(tmp_path / "place")]) == cli.DONE
    assert "classes    2: 'cat', 'dog'" in capsys.readouterr().out
    assert not (tmp_path / "place").exists()
