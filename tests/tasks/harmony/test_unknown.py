"""Rows of features of any modality: put together by width and by what they say that they are."""

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.harmony.known import KnownModality, KnownState
from tasks.harmony.unknown import alike, check_beginning, row_groups
from tasks.specs import InputError
from tests.worlds.feature_files import WIDTHS, rows_of, write_rows

KNOWN = KnownState(
    uri="state",
    digest="0",
    modalities=tuple(KnownModality(name=name, width=width) for name, width in WIDTHS.items()),
)


def groups(table: pa.Table, asked: str | None = None) -> dict[tuple[str | None, int], list[int]]:
    return {
        (name, len(table["embedding"][int(places[0])])): places.tolist()
        for places, name in alike(table, KNOWN, asked)
    }


def mixed(*modalities: str | None) -> pa.Table:
    both = pa.concat_tables([rows_of("photo").slice(0, 2), rows_of("sound").slice(0, 2)])
    said = pa.array(modalities or [None] * 4, pa.string())
    return both.set_column(1, "modality", said)


def test_rows_of_one_width_and_one_modality_go_together() -> None:
    assert groups(mixed()) == {(None, 12): [0, 1], (None, 9): [2, 3]}
    assert groups(mixed("photo", None, "SOUND", "SOUND")) == {
        ("photo", 12): [0],
        (None, 12): [1],
        ("sound", 9): [2, 3],
    }
    assert groups(mixed("photo", None, None, "sound").slice(0, 2), "sketch") == {
        ("sketch", 12): [0, 1]
    }


@pytest.mark.parametrize(
    ("table", "asked", "expected"),
    [
        (mixed("foto", None, None, None), None, "column modality: expected one of the modalities"),
        (mixed("sound", None, None, None), None, "'photo-000' has 12 features; learned were sound"),
        (mixed(), "photo", "'sound-000' has 9 features; learned were photo from 12"),
        (
            mixed().set_column(2, "embedding", pa.array([[1.0]] * 4)),
            None,
            "has 1 features; learned",
        ),
    ],
)
def test_what_was_not_learned_is_told(table: pa.Table, asked: str | None, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        groups(table, asked)


def test_each_row_of_a_file_has_a_name(tmp_path: Path) -> None:
    tables = [rows_of(name).drop_columns(["sample_id"]).slice(0, 3) for name in ("photo", "photo")]
    file = write_rows(tmp_path / "a.parquet", *tables)
    found = [table for group in row_groups(file) for table in group.tables()]
    names = [name for table in found for name in table["sample_id"].to_pylist()]
    assert names == [f"a.parquet:{row}" for row in range(6)]
    check_beginning(file, KNOWN, None)
    with pytest.raises(InputError, match=r"sample 'a.parquet:0' has 12 features; learned were so"):
        check_beginning(file, KNOWN, "sound")
