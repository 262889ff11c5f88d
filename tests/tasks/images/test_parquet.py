"""Images in Parquet: bytes and paths in every type of Arrow that people write."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.images.sources import list_source, read_images


def cells(path: Path, rows: int) -> list[bytes | OSError]:
    assert list_source(str(path)).num_images == rows
    found = dict(read_images([f"{path}#{row}" for row in range(rows)]))
    return [found[row] for row in range(rows)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": pa.array([b"one", b"a longer second"], kind)}), path)
    assert cells(path, 2) == [b"one", b"a longer second"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_paths(tmp_path: Path, kind: pa.DataType) -> None:
    (tmp_path / "x y").mkdir()
    (tmp_path / "x y" / "1.png").write_bytes(b"one")
    path = tmp_path / "t.parquet"
    names = ["x y/1.png", str(tmp_path / "x y" / "1.png"), "none.png", "", None]
    pq.write_table(pa.table({"image": pa.array(names, kind)}), path)
    first, second, *others = cells(path, 5)
    assert first == second == b"one"
    assert all(isinstance(other, OSError) for other in others)


@pytest.mark.parametrize("text", [pa.string(), pa.string_view()])
@pytest.mark.parametrize("data", [pa.binary(), pa.binary_view(), None])
def test_structs(tmp_path: Path, text: pa.DataType, data: pa.DataType | None) -> None:
    (tmp_path / "1.png").write_bytes(b"one")
    path = tmp_path / "t.parquet"
    fields = [("path", text)] if data is None else [("bytes", data), ("path", text)]
    rows = [{"path": "1.png"}, {"path": "2.png"}, None]
    pq.write_table(pa.table({"image": pa.array(rows, pa.struct(fields))}), path)
    first, second, third = cells(path, 3)
    assert first == b"one"
    assert isinstance(second, FileNotFoundError)
    assert isinstance(third, OSError)
