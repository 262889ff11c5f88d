"""A pass over the pool on a real Ray: one part for each part of the pool, and none twice."""

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from tasks.compute.map_parts import map_parts
from tasks.refs import PoolRef
from tasks.specs import RuntimeSpec
from tasks.storage.layout import QUARANTINE
from tasks.storage.manifest import part_name
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join
from tests.worlds.stages import cut, stage

DIGEST = "feedfeedfeedfeed"
NUMBERS = list(range(7))


class Job(NamedTuple):
    """What an actor is made from."""

    folder: str
    digest: str


@pytest.fixture
def pool(tmp_path: Path) -> PoolRef:
    """Return a pool of seven images in three parts."""
    table = pa.table({"number": NUMBERS})
    return PoolRef(
        uri=stage(tmp_path / "pool", cut(table, 3)),
        digest="pool",
        classes=("a", "b"),
        labeled=False,
        num_pool=7,
        num_test=0,
        num_duplicates=0,
        num_quarantined=0,
    )


def make_doubler() -> type:
    """Return the class of an actor that doubles numbers and quarantines six."""

    class Doubler:
        def __init__(self, job: Job, device: str) -> None:
            assert device == "cpu"
            self.folder = job.folder

        def write_part(self, uri: str, name: str) -> int:
            numbers = read_table(uri)["number"].to_pylist()
            good, bad = [n for n in numbers if n != 6], [n for n in numbers if n == 6]
            if bad:
                write_table(join(self.folder, QUARANTINE, name), pa.table({"number": bad}))
            write_table(join(self.folder, name), pa.table({"doubled": [2 * n for n in good]}))
            with (Path(self.folder).parent / "log").open("a") as log:
                log.write(f"{name}\n")
            return len(numbers)

    return Doubler


def names() -> list[str]:
    return [part_name(number, DIGEST) for number in range(3)]


def log_of(job: Job) -> list[str]:
    return sorted((Path(job.folder).parent / "log").read_text().split())


def run(actor: Any, job: Job, pool: PoolRef) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    outcome = map_parts(actor, job, pool, RuntimeSpec(), label="Double")
    return [(part.name, part.rows) for part in outcome.parts], dict(outcome.facts)


def test_each_part_of_the_pool_becomes_a_part(
    tmp_path: Path, pool: PoolRef, ray_session: None
) -> None:
    job = Job(str(tmp_path / "doubled"), DIGEST)
    parts, facts = run(make_doubler(), job, pool)
    assert parts == list(zip(names(), [3, 3, 0], strict=True))
    assert facts == {"quarantined": 1, "pool": "pool"}
    tables = [read_table(join(job.folder, name))["doubled"].to_pylist() for name in names()]
    assert tables == [[0, 2, 4], [6, 8, 10], []]
    assert log_of(job) == names()


def test_only_missing_parts_are_computed(
    tmp_path: Path, pool: PoolRef, ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(str(tmp_path / "doubled"), DIGEST)
    run(make_doubler(), job, pool)
    (tmp_path / "log").unlink()
    (tmp_path / "doubled" / names()[1]).unlink()
    capsys.readouterr()
    parts, _ = run(make_doubler(), job, pool)
    assert log_of(job) == [names()[1]]
    assert [rows for _, rows in parts] == [3, 3, 0]
    said = capsys.readouterr().err
    assert "Double: 2 of 3 shards were finished before" in said
    assert "Double: 3 images in" in said


def test_a_whole_stage_needs_no_actor(tmp_path: Path, pool: PoolRef) -> None:
    job = Job(str(tmp_path / "doubled"), DIGEST)
    for number, name in enumerate(names()):
        write_table(join(job.folder, name), pa.table({"doubled": [number]}))
    parts, facts = run(None, job, pool)
    assert parts == [(name, 1) for name in names()]
    assert facts["quarantined"] == 0


def test_parts_of_another_digest_do_not_count(
    tmp_path: Path, pool: PoolRef, ray_session: None
) -> None:
    job = Job(str(tmp_path / "doubled"), DIGEST)
    for number in range(3):
        name = part_name(number, "0" * 16)
        write_table(join(job.folder, name), pa.table({"doubled": [99]}))
    parts, _ = run(make_doubler(), job, pool)
    assert [rows for _, rows in parts] == [3, 3, 0]
    assert log_of(job) == names()
