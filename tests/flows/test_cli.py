"""What a person meets: bad input ends in exit code 2 and one sentence, never in a traceback."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows import cli


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / name / "1.png")
    return folder


def _classes(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    return str(path)


def _refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(words) == cli.BAD_INPUT
    said = capsys.readouterr().err.strip()
    assert said.startswith("coft: ")
    assert "Traceback" not in said
    assert "\n" not in said
    return said


def test_no_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    words = ["adapt", "--images", str(tmp_path / "empty"), "--classes", "cat,dog"]
    assert "expected images" in _refused(words, capsys)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"cat\n", "at least two"),
        (b"cat\ndog\ncat\n", "'cat' is repeated"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01", "UTF-8"),
        (b"", "class"),
    ],
)
def test_class_files(
    content: bytes, expected: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["adapt", "--images", str(photos), "--classes", _classes(tmp_path, content)]
    assert expected in _refused(words, capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--phase1.epochs", "-3"], "--phase1.epochs"),
        (["--phase2.start", "nowhere"], "'phase1' or 'original'"),
        (["--phase2.epohs", "3"], "--phase2.epochs"),
    ],
)
def test_settings_of_the_method(
    words: list[str], expected: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ["adapt", "--images", str(photos), "--classes", "cat,dog"]
    assert expected in _refused([*images, *words], capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--answers", "/nowhere/answers.csv"], "found nothing there"),
        (["--answers", "answers.csv", "--method", "zero-shot"], "nothing learns"),
    ],
)
def test_answers_that_cannot_be_used(
    words: list[str], expected: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ["adapt", "--images", str(photos), "--classes", "cat,dog"]
    assert expected in _refused([*images, *words], capsys)


def test_labels_column_without_the_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    path = tmp_path / "images.parquet"
    pq.write_table(pa.table({"image": [buffer.getvalue()]}), path)
    words = ["adapt", "--images", str(path), "--classes", "cat,dog", "--labels", "column"]
    assert "--labels column" in _refused(words, capsys)


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("no-such-model/openai", "is unknown"),
        ("ViT-B-16/no-such-tag", "names no known weights"),
        ("ViT-B-16-SigLIP/webli", "not supported"),
        ("local-dir:/nowhere", "does not exist"),
        ("embedded:nothing", "nothing"),
    ],
)
def test_backbones(
    backbone: str, expected: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["adapt", "--images", str(photos), "--classes", "cat,dog", "--backbone", backbone]
    assert expected in _refused(words, capsys)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--learner.kind", "vpt"], "--learner.kind vpt"),
        (["--learner.kind", "maple"], "ViT"),
        (["--start", "phase2"], "--start phase2: expected phase1, zero-shot"),
        (["--start", "models:/nobody@champion"], "nobody"),
        (["--strategy", "best"], "strategy 'best' is unknown"),
        (["--strategy", "pcb:best"], "strategy 'best' is unknown"),
        (["--per-round", "0"], "per-round: "),
        (["--smallest-gain", "-1"], "smallest-gain: "),
    ],
)
def test_rounds_that_cannot_be(
    words: list[str],
    expected: str,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = ["active", "start", "--images", str(photos), "--classes", "cat,dog"]
    place = ["--workspace", str(tmp_path / "place"), "--budget", "10"]
    assert expected in _refused([*start, *place, *words], capsys)
    assert not (tmp_path / "place" / "rounds").exists()


def test_a_simulation_without_labels(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["active", "simulate", "--images", str(photos), "--classes", "cat,dog"]
    assert "expected --labels" in _refused(words, capsys)


def test_unreachable_bucket_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["adapt", "--images", "gs://nowhere/photos", "--classes", "cat,dog"]
    assert "gcsfs" in _refused(words, capsys)


def test_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["adapt", "--imagse", "x"]) == cli.BAD_INPUT
    assert "imagse" in capsys.readouterr().err


def test_empty_workspace_has_no_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _refused(["query", "select 1", "--workspace", str(tmp_path / "nothing")], capsys)


def test_no_model_is_registered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "list", "--workspace", str(tmp_path)]) == cli.DONE
    assert "No model is registered" in capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == cli.DONE
    said = capsys.readouterr().out
    for name in ("adapt", "embed", "predict", "query", "similar", "models", "demo", "doctor"):
        assert name in said
