"""Answers as text for people and as files."""

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.query.output import to_bytes, to_text, write_output
from tasks.specs import InputError


@pytest.fixture(scope="module")
def odd() -> pa.Table:
    return pa.table(
        {
            "image_id": ["f" * 64, None],
            "name": ["[red]x[/red]", "a\x1b[31m\nb"],
            "score": [0.123456, float("nan")],
            "parts": [[0.1, 0.2, 0.3, 0.4], []],
            "n": [1, 2],
        }
    )


def test_text_is_plain_and_cut(odd: pa.Table) -> None:
    text = to_text(odd, width=120)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "f" * 12 + " " in text
    assert "0.1235" in text
    assert "[0.1, 0.2, 0.3, ... 4]" in text
    assert text.endswith("2 rows")
    assert to_text(odd, 1, width=120).endswith("1 of 2 rows")
    assert "0 rows" in to_text(odd.slice(0, 0))


def test_files_hold_the_table(odd: pa.Table, tmp_path: Path) -> None:
    write_output(odd, str(tmp_path / "t.parquet"))
    assert pq.read_table(tmp_path / "t.parquet").schema == odd.schema
    write_output(odd, str(tmp_path / "t.json"))
    rows = json.loads((tmp_path / "t.json").read_text())
    assert rows[0]["parts"] == [0.1, 0.2, 0.3, 0.4]
    assert rows[1]["score"] is None
    write_output(odd, str(tmp_path / "any"), "csv")
    names = duckdb.read_csv(str(tmp_path / "any")).project("name, parts").fetchall()
    assert names[0] == ("[red]x[/red]", "[0.1, 0.2, 0.3, 0.4]")
    assert json.loads(to_bytes(odd.slice(0, 0), "json")) == []
    with pytest.raises(InputError, match="ends in one of csv, json, parquet"):
        write_output(odd, str(tmp_path / "any.txt"))
