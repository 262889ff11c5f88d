"""A stage is computed once, goes on where it stopped, and is never taken for another."""

from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest

from tasks.storage.digests import ShardMismatch
from tasks.storage.files import exists
from tasks.storage.manifest import Part, part_name, read_manifest
from tasks.storage.stage import Outcome, finished, once, part_uris
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join

DIGEST = "0123456789abcdef"
NUM_PARTS = 3


class Numbers:
    """A stage of three parts of two rows; it notes which it wrote and may fail at one of them."""

    def __init__(self, folder: str, *, fail_at: int | None = None) -> None:
        self.folder = folder
        self.fail_at = fail_at
        self.written: list[int] = []
        self.num_calls = 0

    def compute(self) -> Outcome:
        self.num_calls += 1
        parts = []
        for number in range(NUM_PARTS):
            name = part_name(number, DIGEST)
            if not exists(join(self.folder, name)):
                self._write(number, name)
            parts.append(Part(name=name, rows=2))
        return Outcome(parts=parts, facts={"sum": 6})

    def _write(self, number: int, name: str) -> None:
        if number == self.fail_at:
            raise OSError("the disk is full")
        write_table(join(self.folder, name), pa.table({"number": [number, number]}))
        self.written.append(number)

    def once(self, digest: str = DIGEST) -> bool:
        manifest, resumed = once(
            self.folder, kind="numbers", digest=digest, label="Numbers", compute=self.compute
        )
        assert manifest == read_manifest(self.folder)
        return resumed


@pytest.fixture(params=["folder", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "stage") if request.param == "folder" else f"memory://{uuid4().hex}/s"


def test_a_stage_is_computed_once(folder: str) -> None:
    stage = Numbers(folder)
    assert stage.once() is False
    assert stage.once() is True
    assert (stage.num_calls, stage.written) == (1, [0, 1, 2])


def test_the_manifest_says_what_was_made_and_of_what(folder: str) -> None:
    Numbers(folder).once()
    manifest = finished(folder)
    assert (manifest.kind, manifest.digest, manifest.rows) == ("numbers", DIGEST, 6)
    assert manifest.facts == {"sum": 6}
    assert manifest.seconds > 0
    tables = [read_table(uri) for uri in part_uris(folder)]
    assert [table["number"].to_pylist() for table in tables] == [[0, 0], [1, 1], [2, 2]]


def test_a_stage_made_from_something_else_is_refused_and_stays(folder: str) -> None:
    Numbers(folder).once()
    before = finished(folder)
    other = Numbers(folder)
    with pytest.raises(ShardMismatch, match=f"made from {'f' * 16}, found one made from {DIGEST}"):
        other.once("f" * 16)
    assert other.num_calls == 0
    assert finished(folder) == before


def test_a_failure_leaves_no_manifest_and_the_next_run_goes_on(folder: str) -> None:
    broken = Numbers(folder, fail_at=1)
    with pytest.raises(OSError, match="the disk is full"):
        broken.once()
    assert read_manifest(folder) is None
    with pytest.raises(ShardMismatch, match="expected a finished stage"):
        finished(folder)
    again = Numbers(folder)
    assert again.once() is False
    assert (broken.written, again.written) == ([0], [1, 2])
