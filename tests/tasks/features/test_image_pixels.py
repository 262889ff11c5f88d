"""The images behind features: in the order of the features, and read when they are asked for."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from clipcore.images import Preprocess
from tasks.features.image_pixels import Reading, pixels_behind
from tasks.refs import ImagesRef
from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec
from tests.worlds.pixels import PREPROCESS, pixels_in, write_files
from tests.worlds.stages import cut, stage

READING = Reading(PoolSpec(images="anywhere"), 0, flip=False)


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    table = write_files(tmp_path / "images", 7).sort_by("image_id")
    return table.append_column("duplicate_of", pa.nulls(len(table), pa.string()))


@pytest.fixture
def images(table: pa.Table, tmp_path: Path) -> ImagesRef:
    return ImagesRef(
        uri=stage(tmp_path / "pool", cut(table, 3), kind="pool"),
        digest="images",
        num_pool=4,
        num_test=3,
        num_duplicates=0,
        num_quarantined=0,
    )


def test_images_come_by_their_place_among_the_features(images: ImagesRef, table: pa.Table) -> None:
    pool, test = [5, 0, 2, 4], [1, 3, 6]
    ids, expected = table["image_id"].combine_chunks(), pixels_in(table)
    found = pixels_behind(images, ids.take(pool), ids.take(test), READING, lambda: PREPROCESS)()
    batches = [torch.tensor([2, 1]), torch.tensor([0])]
    for load, rows in ((found.pool, pool), (found.test, test)):
        for batch, seen in zip(batches, load(batches), strict=True):
            assert torch.equal(seen, expected[torch.tensor(rows)[batch]])
    assert not found.flip


def test_nothing_is_read_before_it_is_asked_for(images: ImagesRef, table: pa.Table) -> None:
    asked = []

    def preprocess() -> Preprocess:
        asked.append(1)
        return PREPROCESS

    ids = table["image_id"].combine_chunks()
    for uri in table["uri"].to_pylist():
        Path(uri).unlink()
    found = pixels_behind(images, ids, ids.slice(0, 0), READING, preprocess)()
    assert not asked
    with pytest.raises(OSError, match=r"\.png"):
        next(found.pool([torch.tensor([0])]))
    assert asked == [1]


def test_how_images_are_read_comes_from_the_run(of_run: Callable[..., CoftSpec]) -> None:
    spec = of_run(flip=False, runtime=RuntimeSpec(pixel_cache=0))
    assert Reading.of(spec) == Reading(spec.pool, 0, flip=False)


@pytest.fixture
def of_run() -> Callable[..., CoftSpec]:
    return lambda **values: CoftSpec(pool=PoolSpec(images="somewhere"), **values)
