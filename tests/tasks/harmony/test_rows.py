"""Rows in Parquet as samples: which are read, and as what."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.harmony.rows import LabelledRows, Rows
from tests.worlds.feature_files import CLASSES, TEST, TRAIN, rows_of, write_rows


def test_features_of_row_groups_of_others_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_rows(tmp_path / "all.parquet", rows_of("photo"), rows_of("sketch"))
    read: list[list[int]] = []
    real = pq.ParquetFile.iter_batches

    def heard(self: pq.ParquetFile, *args: object, **kwargs: list[int]) -> object:
        read.append(kwargs["row_groups"])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", heard)
    (piece,) = Rows((file,), "sketch").pieces()
    assert read == [[1]]
    assert set(piece["modality"].to_pylist()) == {"sketch"}


@pytest.mark.parametrize(("part", "count"), [("train", TRAIN), ("test", TEST), (None, None)])
def test_parts_are_told_apart(tmp_path: Path, part: str | None, count: int | None) -> None:
    file = write_rows(tmp_path / "all.parquet", rows_of("photo"))
    pieces = list(LabelledRows(Rows((file,), "photo", part), CLASSES))  # type: ignore[arg-type]
    assert sum(len(labels) for _, labels in pieces) == (count or TRAIN + TEST)
    again = list(LabelledRows(Rows((file,), "photo", part), CLASSES))  # type: ignore[arg-type]
    assert all((one == two).all() for (one, _), (two, _) in zip(pieces, again, strict=True))


def test_labels_are_classes_as_people_spell_them(tmp_path: Path) -> None:
    labels = ["CAT ", "Dog", "car", "cow", *["cat"] * (TRAIN + TEST - 4)]
    table = rows_of("photo", label=labels).drop_columns(["split", "modality"])
    file = write_rows(tmp_path / "all.parquet", table)
    ((inputs, numbers),) = LabelledRows(Rows((file,), "anything", "train"), CLASSES)
    assert numbers[:4].tolist() == [0, 1, 2, 0]  # a cow is none of them
    assert len(inputs) == TRAIN + TEST - 1
