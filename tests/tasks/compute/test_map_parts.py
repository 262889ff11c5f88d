"""Items for workers that hold a model, on a real Ray: each once."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.compute.map_parts import map_parts
from tasks.specs import RuntimeSpec
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join


def make_doubler() -> type:
    """Return the class of an actor that doubles numbers; workers know no module of tests."""

    class Doubler:
        def __init__(self, job: str, device: str) -> None:
            assert device == "cpu"
            self.folder = job

        def write_part(self, name: str, *numbers: int) -> int:
            write_table(join(self.folder, name), pa.table({"doubled": [2 * n for n in numbers]}))
            return len(numbers)

    return Doubler


def run(actor: Any, folder: Path, items: list[tuple[Any, ...]]) -> None:
    map_parts(actor, str(folder), items, RuntimeSpec(), label="Double", total=3)


def test_each_item_is_written_by_some_actor(
    tmp_path: Path, ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run(make_doubler(), tmp_path, [("a", 1, 2), ("b", 3)])
    doubled = [read_table(str(tmp_path / name))["doubled"].to_pylist() for name in "ab"]
    assert doubled == [[2, 4], [6]]
    assert "Double: 3 images in" in capsys.readouterr().err
