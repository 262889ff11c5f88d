"""The cross-filter against the equation written with loops, on peers that differ."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.label.cross_filter import cross_filter, held_out
from tasks.refs import LabelsRef, Reason
from tasks.specs import CoftSpec, CollaborationSpec, Phase2Spec, PoolSpec, RuntimeSpec
from tasks.storage.manifest import iter_tables
from tests.worlds.stages import CLASSES, images
from tests.worlds.two_peers import DIM, World, write_world


def spec(place: Path, phase2: Phase2Spec, **together: object) -> CoftSpec:
    return CoftSpec(
        pool=PoolSpec(images="memory://"),
        phase2=phase2,
        collaboration=CollaborationSpec.model_validate(together),
        runtime=RuntimeSpec(workspace=str(place / "workspace")),
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path)


def expected_labels(own: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[object]:
    """Return (image, class, gap of the other peer) of pool images, image by image."""
    rows: list[object] = []
    pool = images(DIM)[0].to_pylist()
    for number, row in enumerate(pool):
        if row["split"] == "pool" and row["duplicate_of"] is None:
            scores = [float(own["features"][number] @ t) for t in own["positive"]]
            label = scores.index(max(scores))
            v = other["features"][number]
            gap = float(v @ other["positive"][label] - v @ other["negative"][label])
            rows.append((row["image_id"], CLASSES[label], gap))
    return rows


def rows_of(labels: LabelsRef) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pa.concat_tables(iter_tables(labels.uri)).to_pylist()
    return rows


def test_each_peer_labels_and_the_other_one_filters(
    world: World, tmp_path: Path, ray_session: None
) -> None:
    pool, peers, features, tensors = world
    settings = spec(tmp_path, Phase2Spec(holdout=0.0, min_kept=0))
    found = cross_filter.fn(peers, features, *pool, settings)
    for own, labels in enumerate(found):
        rows = rows_of(labels)
        expected = expected_labels(tensors[own], tensors[1 - own])
        assert [(row["image_id"], row["label"]) for row in rows] == [
            (image, label)
            for image, label, _ in expected  # type: ignore[misc]
        ]
        gaps = [gap for *_, gap in expected]  # type: ignore[misc]
        np.testing.assert_allclose([row["gap"] for row in rows], gaps, atol=1e-6)
        assert [row["kept"] for row in rows] == [gap > 0 for gap in gaps]
        reasons = [Reason.KEPT if gap > 0 else Reason.REJECTED for gap in gaps]
        assert [row["reason"] for row in rows] == reasons
        assert {row["source"] for row in rows} == {f"peer-{own + 1}"}
        assert labels.num_kept == sum(gap > 0 for gap in gaps)
        assert 0 < labels.num_kept < len(rows)


@pytest.mark.parametrize(
    ("together", "num_labellings"),
    [({"judge": "own"}, 2), ({"num_peers": 1}, 1), ({"judge": "none"}, 2)],
)
def test_a_peer_may_judge_itself_and_nobody_may_judge(
    together: dict[str, object],
    num_labellings: int,
    world: World,
    tmp_path: Path,
    ray_session: None,
) -> None:
    pool, peers, features, tensors = world
    settings = spec(tmp_path, Phase2Spec(holdout=0.3, min_kept=0), **together)
    found = cross_filter.fn(peers[:num_labellings], features[:num_labellings], *pool, settings)
    assert len(found) == num_labellings
    for own, labels in enumerate(found):
        rows = rows_of(labels)
        judge = own if together.get("judge") != "none" else 1 - own
        expected = expected_labels(tensors[own], tensors[judge])
        for row, (_, label, gap) in zip(rows, expected, strict=True):  # type: ignore[misc]
            assert row["label"] == label
            is_right = gap > 0 or together.get("judge") == "none"
            assert row["kept"] == (is_right and not is_out(row))
        assert 0 < labels.num_kept < len(rows)


def test_a_class_that_kept_too_few_gets_its_highest_gaps(
    world: World, tmp_path: Path, ray_session: None
) -> None:
    pool, peers, features, _ = world
    least = 14
    settings = spec(tmp_path, Phase2Spec(holdout=0.0, min_kept=least))
    labels, _ = cross_filter.fn(peers, features, *pool, settings)
    rows = rows_of(labels)
    rescued = 0
    for name in CLASSES:
        own = [row for row in rows if row["label"] == name]
        clean = [row for row in own if row["gap"] > 0]  # type: ignore[operator]
        kept = {row["image_id"] for row in own if row["kept"]}
        ranked = sorted(own, key=lambda row: -row["gap"])  # type: ignore[operator]
        expected = {row["image_id"] for row in clean}
        if len(clean) < least:
            expected |= {row["image_id"] for row in ranked[:least]}
        assert kept == expected
        rescued += sum(row["reason"] == Reason.RESCUED for row in own)
    assert rescued > 0


def test_held_out_images_are_neither_kept_nor_rejected(
    world: World, tmp_path: Path, ray_session: None
) -> None:
    pool, peers, features, _ = world
    settings = spec(tmp_path, Phase2Spec(holdout=0.3, min_kept=0))
    one, two = (rows_of(labels) for labels in cross_filter.fn(peers, features, *pool, settings))
    out, other = ({row["image_id"] for row in rows if is_out(row)} for rows in (one, two))
    assert out == other
    assert 0.1 < len(out) / len(one) < 0.5
    assert not any(row["kept"] for row in one if row["image_id"] in out)
    ids = np.array([str(row["image_id"]) for row in one])
    assert set(ids[held_out(ids.tolist(), 0.3, 0)]) == out


def is_out(row: dict[str, object]) -> bool:
    return row["reason"] == Reason.HELD_OUT


def test_a_killed_labelling_goes_on_with_the_parts_that_are_missing(
    world: World, tmp_path: Path, ray_session: None
) -> None:
    pool, peers, features, _ = world
    settings = spec(tmp_path, Phase2Spec(holdout=0.0, min_kept=0))
    labels, _ = cross_filter.fn(peers, features, *pool, settings)
    expected = rows_of(labels)
    parts = sorted(Path(labels.uri).glob("part-*"))
    (Path(labels.uri) / "manifest.json").unlink()
    parts[1].unlink()
    before = {path: path.stat().st_mtime_ns for path in parts if path != parts[1]}
    again, _ = cross_filter.fn(peers, features, *pool, settings)
    assert rows_of(again) == expected
    assert again.num_kept == labels.num_kept
    assert {path: path.stat().st_mtime_ns for path in before} == before
