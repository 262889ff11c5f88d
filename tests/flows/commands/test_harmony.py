"""Harmony by the command line: what cannot be used is told before anything begins."""

from pathlib import Path

import pytest

from flows import cli
from tasks.harmony.record import KIND
from tasks.storage.manifest import make_manifest, write_manifest
from tests.flows.commands.conftest import Refused
from tests.worlds.feature_files import rows_of, write_rows
from tests.worlds.harmony import stage_ref


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Return a folder with features, without a column of modalities in one file."""
    folder = tmp_path / "rows"
    folder.mkdir()
    write_rows(folder / "photo.parquet", rows_of("photo"))
    write_rows(folder / "plain.parquet", rows_of("photo").drop_columns(["modality"]))
    return folder


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "--images of the modality, or --embeddings: one of them"),
        (["--images", "PHOTOS", "--embeddings", "ROWS/photo.parquet"], "one of them"),
        (["--images", "PHOTOS"], "a stage learns from labels; add --labels folders"),
        (["--embeddings", "ROWS/photo.parquet", "--labels", "column"], "leave it out"),
        (["--embeddings", "ROWS/photo.parquet", "--predicted.model", "m"], "not features"),
        (["--images", "PHOTOS", "--predicted.model", "nowhere"], "found no model.json there"),
        (["--images", "PHOTOS", "--labels", "folders", "--predicted.model", "m"], "or else"),
        (["--embeddings", "ROWS/none.parquet"], "got no such path"),
        (["--embeddings", "PHOTOS"], "expected Parquet files of features, found none"),
        (["--embeddings", "ROWS/photo.parquet", "--test", "ROWS/plain.parquet"], "no column mod"),
        (["--embeddings", "ROWS/photo.parquet", "--test", "sound=ROWS"], "expected one of photo"),
        (["--embeddings", "ROWS/photo.parquet", "--backbone", "ViT-X"], "ViT-X"),
        (["--embeddings", "ROWS/photo.parquet", "--register", "a/b"], "'a/b'"),
        (["--embeddings", "ROWS/photo.parquet", "--keep.rho", "2"], "keep.rho"),
        (["--embeddings", "ROWS/photo.parquet", "--begin.template", "a cat"], "begin.template"),
        (["--embeddings", "ROWS/photo.parquet", "--training.steps", "0"], "greater than 0"),
    ],
)
def test_a_stage_that_cannot_be_learned_is_refused(
    words: list[str], expected: str, rows: Path, photos: Path, tmp_path: Path, refused: Refused
) -> None:
    words = [word.replace("ROWS", str(rows)).replace("PHOTOS", str(photos)) for word in words]
    place = ["--workspace", str(tmp_path / "place"), "--state", str(tmp_path / "state")]
    assert expected in refused(["harmony", "learn", *place, "--modality", "photo", *words])
    assert not (tmp_path / "place").exists()
    assert not (tmp_path / "state").exists()


def test_a_state_that_is_none_is_told(tmp_path: Path, refused: Refused) -> None:
    said = refused(["harmony", "show", "--state", str(tmp_path / "none")])
    assert "found no finished stage there" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "--state FOLDER, or --model models:/NAME@ALIAS: one of them"),
        (["--state", "STATE"], "--images, or --embeddings with features: one of them"),
        (["--state", "PHOTOS", "--embeddings", "ROWS"], "found no finished stage there"),
        (["--model", "models:/birds@champion", "--embeddings", "ROWS"], "no model 'birds'"),
        (["--model", "PHOTOS", "--embeddings", "ROWS"], "found no model.json there"),
        (["--state", "STATE", "--embeddings", "ROWS/none.parquet"], "got no such path"),
        (["--state", "STATE", "--embeddings", "ROWS/plain.parquet"], "has 12 features; learned"),
        (["--state", "STATE", "--embeddings", "ROWS/photo.parquet"], "'photo'"),
        (["--state", "STATE", "--embeddings", "ROWS", "--modality", "smell"], "got 'smell'"),
        (["--state", "STATE", "--images", "PHOTOS"], "nothing was learned from images, only sound"),
        (["--state", "STATE", "--images", "PHOTOS", "--modality", "sound"], "from features"),
    ],
)
def test_a_prediction_that_cannot_be_made_is_refused(
    words: list[str], expected: str, rows: Path, photos: Path, tmp_path: Path, refused: Refused
) -> None:
    stage = stage_ref("sound", ("cat", "dog"))
    manifest = make_manifest(KIND, stage.digest, ())
    facts = {"facts": stage.record.model_dump(mode="json")}
    write_manifest(str(tmp_path / "state" / "001-sound"), manifest.model_copy(update=facts))
    places = {"ROWS": rows, "PHOTOS": photos, "STATE": tmp_path / "state"}
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    workspace = tmp_path / "place"
    assert expected in refused(["harmony", "predict", "--workspace", str(workspace), *words])
    assert not workspace.exists()


def test_the_demo_tells_what_it_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    words = ["demo", "--harmony", "--dry-run", "--workspace", str(place)]
    assert cli.run(words) == cli.DONE
    assert "digits as images, sounds, strokes and words" in capsys.readouterr().out
    assert not place.exists()
