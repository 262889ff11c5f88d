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


QUICK = {
    "label": LabelSpec(top=TopSpec(per_class=4, min_total=0)),
    "phase1": Phase1Spec(epochs=1, min_steps=0, batch_size=8),
    "phase2": Phase2Spec(epochs=1, batch_size=8, holdout=0.2),
}
ABLATED = ("coft:no-negative", "coft:one-peer", "coft:no-cross", "coft:no-phase2")


def quick_spec(folder: Path, clip: Path, methods: tuple[str, ...], **more: object) -> CompareSpec:
    spec = spec_of(folder, clip, methods=methods, seeds=1, shots=0, **more)
    return spec.model_copy(update={"run": spec.run.model_copy(update=QUICK)})


def test_a_whole_flow_is_a_row_with_the_columns_of_the_others(
    tmp_path: Path, tiny_clip: Path
) -> None:
    methods, balance = ("zero-shot", "coft"), ("as-is", "half-absent")
    spec = quick_spec(tmp_path, tiny_clip, methods, balance=balance)
    found = read_comparison(compare(spec))
    rows = {(one.method, one.balance): one for one in found.results}
    assert set(rows) == {(name, one) for name in methods for one in balance}
    for place in balance:
        base, coft = rows["zero-shot", place], rows["coft", place]
        assert (coft.num_pool, coft.num_test) == (base.num_pool, base.num_test)
        assert coft.accuracy is not None
        assert coft.to_zero_shot == pytest.approx(coft.accuracy - (base.accuracy or 0))
        names = ("worst_recall", "calibration_error", "taught_precision", "taught_recall")
        assert all(getattr(coft, name) is not None for name in (*names, "seconds"))
        assert (coft.num_parameters or 0) > 1000
    assert rows["coft", "half-absent"].num_pool == 15

    peers = tmp_path / "workspace" / "peers"
    before = {path: path.stat().st_mtime_ns for path in peers.rglob("*.safetensors")}
    assert len({path.parent for path in before}) == 4 * len(balance)
    again = read_comparison(compare(spec))
    assert {one.accuracy for one in again.results} == {one.accuracy for one in found.results}
    assert {path: path.stat().st_mtime_ns for path in peers.rglob("*.safetensors")} == before


def test_ablations_are_runs_without_a_part(tmp_path: Path, tiny_clip: Path) -> None:
    found = read_comparison(compare(quick_spec(tmp_path, tiny_clip, (*ABLATED, "zero-shot"))))
    rows = {one.method: one for one in found.results}
    assert set(rows) == {*ABLATED, "zero-shot"}
    assert not any(one.failed for one in found.results)
    whole = rows["coft:no-cross"].num_parameters or 0
    assert rows["coft:one-peer"].num_parameters == whole / 2
    assert 0 < (rows["coft:no-phase2"].num_parameters or 0) < whole / 10
    recalls = {name: rows[name].taught_recall or 0 for name in ABLATED}
    assert recalls["coft:no-negative"] >= recalls["coft:no-cross"] > 0


def test_a_run_that_fails_is_a_row_that_says_so(
    tmp_path: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(spec: CoftSpec) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("flows.compare.adapted", ends)
    found = read_comparison(compare(quick_spec(tmp_path, tiny_clip, ("zero-shot", "coft"))))
    rows = {one.method: one for one in found.results}
    assert rows["coft"].failed == ("RuntimeError: out of memory",)
    assert rows["zero-shot"].accuracy is not None


def test_settings_that_no_method_would_look_at_are_refused(tmp_path: Path, tiny_clip: Path) -> None:
    with pytest.raises(InputError, match="none of --methods zero-shot,fast would look at it"):
        compare(quick_spec(tmp_path, tiny_clip, ("zero-shot", "fast")))


def test_images_without_labels_are_refused(tmp_path: Path, tiny_clip: Path) -> None:
    with pytest.raises(InputError, match="expected labels, got none"):
        compare(spec_of(tmp_path, tiny_clip, labels=None))
