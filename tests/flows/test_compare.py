"""The arena end to end, on drawn images and a tiny CLIP."""

from pathlib import Path

import pytest

from clipcore.classifier import load_classifier
from flows.compare import compare
from tasks.compare.arena import PAGE, TABLE, read_comparison
from tasks.compare.specs import CompareSpec
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    InputError,
    LabelSpec,
    Phase1Spec,
    Phase2Spec,
    PoolSpec,
    RuntimeSpec,
    TopSpec,
)
from tasks.tracking.store import tracking_for
from tasks.tracking.versions import list_models
from tests.worlds.images import write_images

pytestmark = pytest.mark.usefixtures("prefect_session", "ray_session")

NAMES = ("zero-shot", "zlap", "fast", "gda")


def spec_of(
    folder: Path, clip: Path, *, labels: str | None = "column", **more: object
) -> CompareSpec:
    pool = PoolSpec(
        images=str(write_images(folder)), labels=labels, classes="red,green,blue", rows_per_shard=16
    )
    run = CoftSpec(
        pool=pool,
        backbone=BackboneSpec(name=f"local-dir:{clip}"),
        runtime=RuntimeSpec(workspace=str(folder / "workspace")),
        command="coft compare",
    )
    values: dict[str, object] = {"run": run, "methods": NAMES, "seeds": 2, "shots": 2, **more}
    return CompareSpec.model_validate(values)


def cells_of(folder: Path) -> dict[str, int]:
    cells = folder / "workspace" / "comparisons" / "cells"
    return {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}


def test_all_methods_are_measured_and_more_seeds_keep_finished_cells(
    tmp_path: Path, tiny_clip: Path
) -> None:
    balance = ("as-is", "half-absent")
    ref = compare(spec_of(tmp_path, tiny_clip, balance=balance))
    found = read_comparison(ref)
    rows = {(one.method, one.balance): one for one in found.results}
    assert set(rows) == {(name, one) for name in NAMES for one in balance}
    assert all(one.seeds == 2 and one.accuracy is not None for one in rows.values())
    assert rows["zlap", "as-is"].num_pool == 45
    assert rows["zlap", "half-absent"].num_pool == 15
    assert rows["zero-shot", "as-is"].to_zero_shot == 0
    assert "data:image/svg" in Path(ref.uri, PAGE).read_text()
    assert Path(ref.uri, TABLE).read_text().count("| as-is |") == len(NAMES)

    before = cells_of(tmp_path)
    spec = spec_of(tmp_path, tiny_clip, balance=balance, seeds=3)
    run = spec.run.model_copy(update={"register_as": "best"})
    again = read_comparison(compare(spec.model_copy(update={"run": run})))
    assert all(one.seeds == 3 for one in again.results)
    after = cells_of(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) * 3 // 2
    (version,) = list_models(tracking_for(str(tmp_path / "workspace")), "best")
    (model,) = (tmp_path / "workspace" / "models").iterdir()
    assert version.version == "1"
    assert load_classifier(model).facts["method"] == again.best


def test_a_whole_flow_is_a_row_beside_the_others(tmp_path: Path, tiny_clip: Path) -> None:
    spec = spec_of(tmp_path, tiny_clip, methods=("zero-shot", "coft"), seeds=1)
    quick = {
        "label": LabelSpec(top=TopSpec(per_class=4, min_total=0)),
        "phase1": Phase1Spec(epochs=1, min_steps=0, batch_size=8),
        "phase2": Phase2Spec(epochs=1, batch_size=8, holdout=0.2),
    }
    found = read_comparison(
        compare(spec.model_copy(update={"run": spec.run.model_copy(update=quick)}))
    )
    rows = {one.method: one for one in found.results}
    gain = rows["coft"].to_zero_shot
    assert rows["coft"].accuracy is not None
    assert gain == pytest.approx(rows["coft"].accuracy - (rows["zero-shot"].accuracy or 0))
    assert rows["coft"].worst_recall is not None


def test_images_without_labels_are_refused(tmp_path: Path, tiny_clip: Path) -> None:
    with pytest.raises(InputError, match="expected labels, got none"):
        compare(spec_of(tmp_path, tiny_clip, labels=None))
