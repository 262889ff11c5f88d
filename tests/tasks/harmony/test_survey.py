"""What is told of a modality's rows before they are learned from, and which are refused."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.harmony.files import BadFeatures
from tasks.harmony.rows import LabelledRows, Rows
from tasks.harmony.survey import survey
from tests.worlds.feature_files import CLASSES, TEST, TRAIN, WIDTHS, rows_of, write_rows

COUNT = TRAIN + TEST


def spoiled(value: float) -> list[list[float]]:
    """Return features of photos of which one has another number."""
    vectors: list[list[float]] = rows_of("photo")["embedding"].to_pylist()
    vectors[7][3] = value
    return vectors


def test_it_counts_the_rows_of_one_modality(tmp_path: Path) -> None:
    labels = [None, *rows_of("photo")["label"].to_pylist()[1:]]
    splits = ["human", *rows_of("photo")["split"].to_pylist()[1:]]
    photos = rows_of("photo", split=splits)
    sketches = rows_of("sketch", label=labels)
    file = write_rows(tmp_path / "all.parquet", photos, sketches)
    found = survey(file, "photo")
    assert (found.num_train, found.num_test, found.num_other) == (TRAIN - 1, TEST, 1)
    assert found.width == WIDTHS["photo"]
    assert sum(found.labels.values()) == TRAIN - 1
    assert survey(file, "sketch").num_unlabelled == 1


def test_the_digest_is_of_what_is_learned_from(tmp_path: Path) -> None:
    one = survey(write_rows(tmp_path / "one.parquet", rows_of("photo")), "photo")
    beside = write_rows(tmp_path / "two.parquet", rows_of("sound"), rows_of("photo"))
    other = write_rows(tmp_path / "other.parquet", rows_of("photo", seed=1))
    assert survey(beside, "photo").content == one.content
    assert survey(other, "photo").content != one.content


def test_rows_of_other_modalities_are_not_looked_at(tmp_path: Path) -> None:
    bad = rows_of("sketch", embedding=[[float("nan")]] * COUNT)
    mixed = pa.concat_tables([rows_of("photo"), bad])  # in one row group
    file = write_rows(tmp_path / "mixed.parquet", mixed)
    assert survey(file, "photo").num_train == TRAIN
    seen = [labels for _, labels in LabelledRows(Rows((file,), "photo", "train"), CLASSES)]
    assert sum(map(len, seen)) == TRAIN
    with pytest.raises(BadFeatures, match="no finite numbers"):
        survey(file, "sketch")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"embedding": spoiled(float("nan"))}, "'photo-007' has features that are no finite"),
        ({"embedding": spoiled(float("inf"))}, "'photo-007' has features that are no finite"),
        ({"embedding": [[1.0, 2.0], [1.0], *[[1.0, 2.0]] * (COUNT - 2)]}, "others 2; a modality"),
        ({"embedding": [None, *[[1.0, 2.0]] * (COUNT - 1)]}, "'photo-000' has no features"),
        ({"label": [None] * COUNT}, "none of the rows of 'photo' has a label"),
        ({"label": [" "] * COUNT}, "none of the rows of 'photo' has a label"),
        ({"split": ["test"] * COUNT}, "has a split to learn from"),
        ({"modality": ["drawing"] * COUNT}, "it has those of drawing"),
    ],
    ids=["nan", "infinite", "width", "none", "unlabelled", "blank", "test-only", "absent"],
)
def test_rows_that_cannot_be_used_are_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    file = write_rows(tmp_path / "bad.parquet", rows_of("photo", **changes))
    with pytest.raises(BadFeatures, match=expected):
        survey(file, "photo")


def test_two_files_have_one_width(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", rows_of("photo"))
    short = rows_of("photo", embedding=[[1.0, 2.0]] * COUNT)
    write_rows(tmp_path / "b.parquet", short)
    with pytest.raises(BadFeatures, match="samples of 12 and of 2"):
        survey(str(tmp_path), "photo")


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        ("embedding", pa.string(), "expected lists of numbers in a column embedding, got string"),
        ("label", pa.int64(), "expected texts in column label, got int64"),
        ("modality", pa.int64(), "expected texts in column modality, got int64"),
    ],
)
def test_columns_of_another_type_are_refused(
    tmp_path: Path, column: str, kind: pa.DataType, expected: str
) -> None:
    table = rows_of("photo")
    place = table.schema.get_field_index(column)
    other = table.set_column(place, column, pa.nulls(COUNT, kind))
    with pytest.raises(BadFeatures, match=expected):
        survey(write_rows(tmp_path / "bad.parquet", other), "photo")


def test_no_file_and_no_features_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadFeatures, match="got no such path"):
        survey(str(tmp_path / "none.parquet"), "photo")
    with pytest.raises(BadFeatures, match="expected Parquet files of features, found none"):
        survey(str(tmp_path), "photo")
    without = rows_of("photo").drop_columns(["embedding"])
    with pytest.raises(BadFeatures, match="got the columns sample_id, modality, label, split"):
        survey(write_rows(tmp_path / "without.parquet", without), "photo")
