"""Labels in a column of Parquet, in every type of Arrow that people write."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
