"""Labels in a column of Parquet, in every type of Arrow that people write."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.pool.label_file import BadLabels
from tasks.pool.parquet_labels import read_labels
from tasks.specs import RuntimeSpec
from tests.worlds.images import encoded_image
from tests.worlds.pools import labels_of, opened


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["a", "b", None], pa.string_view()),
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.array(["a", "b", None], pa.large_string()),
    ],
)
def test_labels(tmp_path: Path, memory: RuntimeSpec, labels: pa.Array) -> None:
    images = pa.array([encoded_image(number) for number in range(3)], pa.binary_view())
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": images, "label": labels}), path)
    found = labels_of(*opened(path, memory, labels="column"))
    assert list(found.values()) == ["a", "b", None]


def test_numbers_that_pandas_wrote_with_missing_ones(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"image": [b"x"] * 3, "label": [1.0, None, 0.0]})
    pq.write_table(table.replace_schema_metadata({"classes": '["cat", "dog"]'}), path)
    assert read_labels(str(path)).to_pylist() == ["dog", None, "cat"]
    pq.write_table(table, path)
    assert read_labels(str(path)).to_pylist() == ["1", None, "0"]


def write(path: Path, labels: pa.Array, feature: dict[str, Any] | None = None) -> str:
    table = pa.table({"image": [b"x"] * len(labels), "label": labels})
    if feature is not None:
        metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path)
    return str(path)


NAMES = ["cat", "dog"]


@pytest.mark.parametrize(
    "feature",
    [
        {"names": NAMES, "_type": "ClassLabel"},
        {"class_label": {"names": {"1": "dog", "0": "cat"}}},
        {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "Sequence"},
        {"sequence": {"class_label": {"names": {"0": "cat", "1": "dog"}}}},
    ],
)
def test_features_of_hugging_face(tmp_path: Path, feature: dict[str, Any]) -> None:
    """-1 is no label; 7 is no class, and told as it is."""
    uri = write(tmp_path / "t.parquet", pa.array([1, 0, -1, None, 7]), feature)
    assert read_labels(uri).to_pylist() == ["dog", "cat", None, None, "7"]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (pa.array([["cat"], [], None, ["dog"]]), ["cat", None, None, "dog"]),
        (pa.array(["cat", "", " "]), ["cat", None, None]),
        (pa.array([0.0, float("nan"), None]), ["0", None, None]),
    ],
)
def test_what_has_no_label(tmp_path: Path, labels: pa.Array, found: list[str | None]) -> None:
    assert read_labels(write(tmp_path / "t.parquet", labels)).to_pylist() == found


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (pa.array([["cat", "dog"]]), "several labels in a row"),
        (pa.array([{"name": "cat"}]), "expected texts or numbers under label, got struct"),
        (pa.array([[{"id": 1}]]), "expected texts or numbers under label, got struct"),
    ],
)
def test_what_is_no_label(tmp_path: Path, labels: pa.Array, words: str) -> None:
    with pytest.raises(BadLabels, match=words):
        read_labels(write(tmp_path / "t.parquet", labels))
