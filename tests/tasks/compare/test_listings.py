"""The images of a balance as a listing: the same ones that cells see, under the same classes."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.compare.cells import Cell, Sources, run_cell
from tasks.compare.listings import cut_images, pool_of_cut
from tasks.compare.specs import Balance, CompareSpec
from tasks.pool.true_labels import read_classes
from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec
from tasks.storage.tables import read_table
from tests.tasks.compare.conftest import DIM
from tests.worlds.stages import CLASSES, images


def spec_of(folder: Path) -> CompareSpec:
    pool = PoolSpec(images="photos.parquet", test="others", classes="red,blue", labels="x.csv")
    runtime = RuntimeSpec(workspace=str(folder / "workspace"))
    return CompareSpec(run=CoftSpec(pool=pool, runtime=runtime))


@pytest.mark.parametrize("balance", ["long-tail", "half-absent"])
def test_a_flow_sees_the_images_that_cells_see(
    balance: Balance, sources: Sources, tmp_path: Path, ray_session: None
) -> None:
    spec = spec_of(tmp_path)
    cut = cut_images.fn(sources, spec, balance)
    listed = pq.read_table(cut.images).to_pylist()
    cell = Cell("zero-shot", 0, balance, 0, sources, str(tmp_path / "cell"))
    run_cell(cell)
    seen = read_table(f"{cell.place}.parquet").to_pylist()
    assert {(row["uri"].removeprefix("memory://"), row["split"]) for row in listed} == {
        (row["image_id"], row["split"]) for row in seen
    }
    truth = {row["uri"]: row["label"] for row in images(DIM)[0].to_pylist()}
    assert all(truth[row["uri"]] == row["label"] for row in listed)
    assert cut.rows == len(listed) < len(truth)

    pool = pool_of_cut(spec.run.pool, cut)
    assert read_classes(pool) == CLASSES, "also those without images"
    assert (pool.test, pool.labels) == (None, "column")


def test_a_cut_is_written_once(sources: Sources, tmp_path: Path, ray_session: None) -> None:
    one, two = (cut_images.fn(sources, spec_of(tmp_path), "uniform") for _ in range(2))
    assert (one.images, one.resumed, two.resumed) == (two.images, False, True)
    assert Path(one.images).name == "photos-uniform.parquet"
