"""A listing of any length: on disk, sorted, and a bounded number of rows in memory."""

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.images import sources, spilled
from tasks.images.sources import list_source
from tasks.images.spilled import sort_spilled, spill
from tests.worlds.pools import tree


def test_rows_come_back_sorted_from_a_file_that_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spilled, "AT_ONCE", 4)
    monkeypatch.setattr(spilled.tempfile, "tempdir", str(tmp_path))
    numbers = [number * 7 % 30 for number in range(30)]
    table = pa.table({"name": [f"{n:02}" for n in numbers], "number": numbers})
    kept = spill(table.to_batches(max_chunksize=7), table.schema)
    found = sort_spilled(kept, "name")
    assert found["number"].to_pylist() == list(range(30))
    assert kept.equals(table)
    assert list(tmp_path.iterdir()) == []


def test_a_long_listing_is_the_same_as_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(
        tmp_path,
        {f"{n % 3}/{n:02}.png": b"x" for n in range(20)} | {"t.parquet": b"", "a.txt": b""},
    )
    short = list_source(str(tmp_path)).listing
    monkeypatch.setattr(sources, "AT_ONCE", 6)
    long = list_source(str(tmp_path)).listing
    assert long.equals(short)
    assert short["uri"].to_pylist() == sorted(short["uri"].to_pylist())
    assert long.num_rows == 20
