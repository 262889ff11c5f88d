"""The demo's data of four modalities, read back by pyarrow."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from tasks.demo import write_digits as write_images
from tasks.harmony.digits.write import SOUNDS, write_digits
from tasks.harmony.files import classes_of
from tasks.harmony.survey import survey

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
COLUMNS = ["sample_id", "modality", "label", "split"]
SIZES = {
    ("image", "train"): 1297,
    ("image", "test"): 500,
    ("sound", "train"): 1700,
    ("sound", "test"): 250,
    ("stroke", "train"): 1297,
    ("stroke", "test"): 500,
    ("text", "train"): 1360,
    ("text", "test"): 110,
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "new"
    uri = write_digits(str(folder))
    assert uri == str(folder / "digits.parquet")
    return Path(uri)


@pytest.fixture(scope="module")
def rows(file: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = pq.read_table(file, columns=COLUMNS).to_pylist()
    return found


@pytest.fixture(scope="module")
def features(file: Path) -> np.ndarray:
    vectors = pq.read_table(file, columns=["embedding"])["embedding"].combine_chunks()
    return vectors.values.to_numpy().reshape(len(vectors), -1).astype(np.float32)


def of(rows: list[dict[str, str]], modality: str, split: str) -> np.ndarray:
    return np.array([row["modality"] == modality and row["split"] == split for row in rows])


def test_columns_and_classes_are_those_of_the_contract(file: Path) -> None:
    schema = pq.read_schema(file)
    assert schema.names == [*COLUMNS, "embedding"]
    assert str(schema.field("embedding").type).endswith("halffloat>[256]")
    assert json.loads(schema.metadata[b"classes"]) == WORDS


def test_each_modality_is_a_row_group_and_so_read_alone(file: Path) -> None:
    groups = pq.ParquetFile(file)
    found = [set(groups.read_row_group(at)["modality"].to_pylist()) for at in range(4)]
    assert groups.num_row_groups == 4
    assert found == [{"image"}, {"sound"}, {"stroke"}, {"text"}]


def test_a_stage_finds_all_samples_of_a_modality(file: Path) -> None:
    found = survey(str(file), "sound")
    assert (found.width, found.num_train, found.num_test) == (256, 1700, 250)
    assert (set(found.labels), found.num_unlabelled, found.num_other) == (set(WORDS), 0, 0)
    assert classes_of([str(file)]) == tuple(WORDS)


def test_sizes_of_the_splits_and_every_class_in_each(rows: list[dict[str, str]]) -> None:
    assert Counter((row["modality"], row["split"]) for row in rows) == SIZES
    assert {(row["modality"], row["split"], row["label"]) for row in rows} == {
        (*split, word) for split in SIZES for word in WORDS
    }
    assert len({row["sample_id"] for row in rows}) == len(rows)


def test_scans_are_split_like_the_images_of_the_demo(
    rows: list[dict[str, str]], tmp_path: Path
) -> None:
    wanted = pq.read_table(write_images(str(tmp_path / "images.parquet")))["split"].to_pylist()
    for modality in ("image", "stroke"):
        mine = [row for row in rows if row["modality"] == modality]
        assert [row["label"] for row in mine] == [WORDS[one] for one in load_digits().target]
        assert [row["split"] == "test" for row in mine] == [one == "test" for one in wanted]


@pytest.mark.parametrize(("modality", "place"), [("sound", 1), ("text", 0)])
def test_who_speaks_or_writes_in_testing_is_unknown_to_training(
    rows: list[dict[str, str]], modality: str, place: int
) -> None:
    who: dict[str, set[str]] = {"train": set(), "test": set()}
    for row in rows:
        if row["modality"] == modality:  # sound/en-us+m1/7/0, text/fi/7/0
            who[row["split"]].add(row["sample_id"].split("/")[1].split("+")[place])
    assert len(who["train"]) > len(who["test"]) >= 5
    assert who["train"] & who["test"] == set()


def test_an_image_is_its_scan_enlarged(rows: list[dict[str, str]], features: np.ndarray) -> None:
    mine = features[of(rows, "image", "train") | of(rows, "image", "test")]
    squares = ((mine + 1) * 8).reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4))
    scans = load_digits().images
    assert np.corrcoef(squares.ravel(), scans.ravel())[0, 1] > 0.95
    assert (mine.min(), mine.max()) == (-1, 1)


@pytest.mark.parametrize(
    ("modality", "least"), [("image", 0.85), ("sound", 0.6), ("stroke", 0.6), ("text", 0.4)]
)
def test_a_class_mean_says_much_of_what_was_not_trained_on(
    rows: list[dict[str, str]], features: np.ndarray, modality: str, least: float
) -> None:
    labels = np.array([WORDS.index(row["label"]) for row in rows])
    train, test = of(rows, modality, "train"), of(rows, modality, "test")
    means = np.stack([features[train & (labels == label)].mean(axis=0) for label in range(10)])
    apart = ((features[test][:, None] - means) ** 2).sum(axis=2)
    assert (apart.argmin(axis=1) == labels[test]).mean() > least


def test_writing_again_makes_the_same_bytes_and_so_leaves_what_stands(file: Path) -> None:
    before = file.stat()
    write_digits(str(file.parent))
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_is_shipped_is_small() -> None:
    assert SOUNDS.stat().st_size < 1_000_000
