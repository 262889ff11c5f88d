"""A small pool and a query of it, with real images."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.answers.schema import QUERY

CLASSES = ("cat", "dog", 'a <b> & "c"', "Ünicorn")


def encoded(color: int, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (color % 256, color * 7 % 256, color * 31 % 256)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def classes() -> tuple[str, ...]:
    return CLASSES


@pytest.fixture
def pool(tmp_path: Path) -> pa.Table:
    """Six image files and six rows of a Parquet file, with their content hashes."""
    rows = []
    for index in range(6):
        path = tmp_path / "photos" / f"{'ab'[index % 2]}" / f"{index // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(index))
        name = str(path.relative_to(tmp_path / "photos"))
        rows.append((hashlib.sha256(path.read_bytes()).hexdigest(), str(path), name))
    images = [encoded(100 + index) for index in range(6)]
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": pa.array(images, pa.binary())}), table)
    for index, data in enumerate(images):
        name = f"rows.parquet#{index}"
        rows.append((hashlib.sha256(data).hexdigest(), f"{table}#{index}", name))
    return pa.table(dict(zip(("image_id", "uri", "name"), zip(*rows, strict=True), strict=True)))


@pytest.fixture
def make_query(pool: pa.Table) -> Callable[..., pa.Table]:
    """Return `make(**changes)`: a query of the first eight images, columns replaced by changes."""

    def make(**changes: list[Any]) -> pa.Table:
        asked = pool.slice(0, 8)
        columns = {
            "image_id": asked["image_id"].to_pylist(),
            "uri": asked["uri"].to_pylist(),
            "label": [CLASSES[i % 4] for i in range(8)],
            "confidence": [0.9 - i / 20 for i in range(8)],
            "gap": [0.5] * 8,
            "reason": ["the peers disagree: <i>cat</i> or dog"] * 8,
            "position": list(range(8)),
            "round": [2] * 8,
            "likely": [[{"label": CLASSES[i % 4], "probability": 0.9 - i / 20}] for i in range(8)],
        }
        return pa.table({**columns, **changes}, schema=QUERY)

    return make
