"""What a whole flow is worth, against counts with loops."""

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.compare.cells import Sources
from tasks.compare.measure import measure_whole
from tasks.compare.specs import Whole
from tasks.refs import RunSummary
from tasks.specs import CoftSpec, PoolSpec
from tests.tasks.compare.conftest import DIM
from tests.worlds.stages import CLASSES, cut, images, stage

ROWS = [row for row in images(DIM)[0].to_pylist() if row["duplicate_of"] is None]
STAGES = {"pool": 100.0, "embed": 50.0, "phase 1": 3.0, "phase 2": 4.0}


def said(number: int, row: dict[str, str]) -> str:
    """Return the true class, but for every fifth image the next one."""
    return CLASSES[(CLASSES.index(row["label"]) + (number % 5 == 0)) % len(CLASSES)]


def write_predictions(folder: Path) -> str:
    rows = [
        {
            "image_id": row["image_id"],
            "split": row["split"],
            "label": said(number, row),
            "confidence": 0.5 + number % 4 / 10,
        }
        for number, row in enumerate(ROWS)
    ]
    return stage(folder, cut(pa.Table.from_pylist(rows), 9))


def write_taught(folder: Path, every: int) -> str:
    """Write labels of the pool, of which every so many-th is learned from."""
    rows = [
        {"image_id": row["image_id"], "label": said(number, row), "kept": number % every == 0}
        for number, row in enumerate(ROWS)
        if row["split"] == "pool"
    ]
    return stage(folder, cut(pa.Table.from_pylist(rows), 20))


def test_a_flow_is_measured_as_a_cell_is(sources: Sources, tmp_path: Path) -> None:
    run = CoftSpec(pool=PoolSpec(images="photos"))
    taught = tuple(write_taught(tmp_path / f"taught-{every}", every) for every in (2, 3))
    summary = RunSummary(
        method="coft",
        backbone="embedded",
        num_images=len(ROWS),
        num_quarantined=0,
        zero_shot_accuracy=None,
        accuracy=None,
        per_class={},
        model_uri=None,
        model_version=None,
        run_id="1",
        report="report.html",
        seconds_by_stage=STAGES,
        total_seconds=157.0,
        images_per_second=1.0,
        healthy=True,
        verdict="Healthy.",
        predictions=write_predictions(tmp_path / "predictions"),
        taught=taught,
        num_parameters=12,
        peak_bytes=7,
    )
    row = measure_whole(Whole("coft", 1, "as-is", run), summary, sources.task)

    tested = [(n, one) for n, one in enumerate(ROWS) if one["split"] == "test"]
    right = {name: [] for name in CLASSES}  # type: dict[str, list[bool]]
    for number, one in tested:
        right[one["label"]].append(said(number, one) == one["label"])
    recalls = [sum(own) / len(own) for own in right.values() if own]
    assert row["accuracy"] == pytest.approx(sum(map(sum, right.values())) / len(tested))
    assert row["worst_recall"] == pytest.approx(min(recalls))
    assert 0 < row["calibration_error"] < 1
    assert (row["num_pool"], row["num_test"]) == (len(ROWS) - len(tested), len(tested))

    pool = [(n, one) for n, one in enumerate(ROWS) if one["split"] == "pool"]
    precision, recall = [], []
    for every in (2, 3):
        kept = [(n, one) for n, one in pool if n % every == 0]
        count = sum(said(n, one) == one["label"] for n, one in kept)
        precision.append(count / len(kept))
        recall.append(count / len(pool))
    assert row["taught_precision"] == pytest.approx(sum(precision) / 2)
    assert row["taught_recall"] == pytest.approx(sum(recall) / 2)
    assert (row["seconds"], row["peak_bytes"], row["num_parameters"]) == (7.0, 7, 12)
