"""The demo's data set, read back by pyarrow and Pillow and held against scikit-learn."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tasks.demo import write_digits

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("digits") / "new" / "digits.parquet"
    assert write_digits(str(target)) == str(target)
    return target


def test_columns_and_classes_are_what_the_pool_reads(file: Path) -> None:
    schema = pq.read_schema(file)
    assert schema.names == ["name", "image", "label", "split"]
    assert json.loads(schema.metadata[b"classes"]) == [f"digit {word}" for word in WORDS]


def test_every_image_is_a_grey_png_of_its_scan(file: Path) -> None:
    scans = load_digits().images
    blobs = pq.read_table(file)["image"].to_pylist()
    images = [Image.open(io.BytesIO(blob)) for blob in blobs]
    assert {(image.format, image.mode, image.size) for image in images} == {("PNG", "L", (8, 8))}
    levels = np.stack([np.asarray(image) for image in images]) * (16 / 255)
    assert np.abs(levels - scans).max() <= 0.5 * 16 / 255 + 1e-9
    assert levels[:, 0, 0].mean() < 1  # the corner is ground, and the ground is dark


def test_labels_are_the_classes_of_the_scans(file: Path) -> None:
    labels = pq.read_table(file)["label"].to_pylist()
    assert labels == [f"digit {WORDS[target]}" for target in load_digits().target]


def test_split_is_500_test_images_in_the_proportions_of_the_whole(file: Path) -> None:
    rows = pq.read_table(file, columns=["label", "split"]).to_pylist()
    assert Counter(row["split"] for row in rows) == {"pool": 1297, "test": 500}
    whole = Counter(row["label"] for row in rows)
    test = Counter(row["label"] for row in rows if row["split"] == "test")
    assert all(abs(test[name] - count * 500 / 1797) <= 1 for name, count in whole.items())


def test_names_are_distinct(file: Path) -> None:
    names = pq.read_table(file)["name"].to_pylist()
    assert len(set(names)) == len(names) == 1797


def test_writing_again_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    again = Path(write_digits(str(tmp_path / "again.parquet")))
    assert again.read_bytes() == file.read_bytes()


def test_what_stands_is_left_as_it_is(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "digits.parquet"
    write_digits(str(target))
    before = target.stat()
    write_digits(str(target))
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    target.write_bytes(b"cut off")
    write_digits(str(target))
    assert target.read_bytes() == file.read_bytes()


def test_a_bucket_is_as_good_as_a_folder(file: Path) -> None:
    import fsspec

    uri = write_digits("memory://digits-test/digits.parquet")
    assert fsspec.filesystem("memory").cat(uri) == file.read_bytes()
