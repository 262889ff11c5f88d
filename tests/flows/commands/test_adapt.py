"""Images, names, settings, answers and backbones that cannot be adapted to."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.flows.commands.conftest import Refused


def _classes(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    return str(path)


def test_no_images(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "empty").mkdir()
    words = ["adapt", "--images", str(tmp_path / "empty"), "--classes", "cat,dog"]
    assert "expected images" in refused(words)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"cat\n", "at least two"),
        (b"cat\ndog\ncat\n", "'cat' in line 1 and 'cat' in line 3"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01", "UTF-8"),
        (b"", "class"),
    ],
)
def test_class_files(
    content: bytes, expected: str, photos: Path, tmp_path: Path, refused: Refused
) -> None:
    words = ["adapt", "--images", str(photos), "--classes", _classes(tmp_path, content)]
    assert expected in refused(words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--phase1.epochs", "-3"], "--phase1.epochs"),
        (["--label.templates", "a cat"], "--label.templates.0"),
        (["--phase2.start", "nowhere"], "'phase1' or 'original'"),
        (["--phase2.epohs", "3"], "--phase2.epochs"),
        (["--plus.rounds", "3"], "--plus.rounds: --method coft would not look at it; it belongs"),
        (["--sentences.no-synonyms"], "--sentences.no-synonyms: --method coft would not look"),
        (["--method", "fast", "--phase2.epochs", "3"], "--phase2.epochs: --method fast would not"),
        (["--method", "fast", "--paper"], "--paper: --method fast would not look at it"),
        (["--method", "stata", "--student", "embedded"], "--student: --method stata would not"),
        (["--method", "zero-shot", "--no-flip"], "--no-flip: --method zero-shot would not look"),
    ],
)
def test_settings_of_the_method(
    words: list[str], expected: str, photos: Path, refused: Refused
) -> None:
    images = ["adapt", "--images", str(photos), "--classes", "cat,dog"]
    assert expected in refused([*images, *words])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--answers", "/nowhere/answers.csv"], "found nothing there"),
        (["--answers", "answers.csv", "--method", "zero-shot"], "nothing learns"),
    ],
)
def test_answers_that_cannot_be_used(
    words: list[str], expected: str, photos: Path, refused: Refused
) -> None:
    images = ["adapt", "--images", str(photos), "--classes", "cat,dog"]
    assert expected in refused([*images, *words])


def test_labels_column_without_the_column(tmp_path: Path, refused: Refused) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    path = tmp_path / "images.parquet"
    pq.write_table(pa.table({"image": [buffer.getvalue()]}), path)
    words = ["adapt", "--images", str(path), "--classes", "cat,dog", "--labels", "column"]
    assert "--labels column" in refused(words)


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
def test_backbones(backbone: str, expected: str, photos: Path, refused: Refused) -> None:
    words = ["adapt", "--images", str(photos), "--classes", "cat,dog", "--backbone", backbone]
    assert expected in refused(words)


def test_unreachable_bucket_says_what_is_missing(refused: Refused) -> None:
    words = ["adapt", "--images", "gs://nowhere/photos", "--classes", "cat,dog"]
    assert "gcsfs" in refused(words)


@pytest.mark.parametrize("command", [["embed"], ["predict", "--model", "models:/photos/1"]])
def test_images_that_are_not_there(command: list[str], refused: Refused) -> None:
    assert "/nowhere" in refused([*command, "--images", "/nowhere"])
