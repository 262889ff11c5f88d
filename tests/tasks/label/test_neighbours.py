"""Labels by neighbours: of one graph, of a larger pool, with answers, and in the cross-filter."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch

from clipcore.propagation import affinity_graph, propagate
from tasks.label import neighbours
from tasks.label.cross_filter import cross_filter
from tasks.label.neighbours import label_by_neighbours
from tasks.refs import AnswersRef, LabelsRef, Phase1Round
from tasks.specs import CoftSpec, NeighboursSpec, Phase2Spec, PlusSpec, PoolSpec, RuntimeSpec
from tasks.storage.manifest import iter_tables
from tasks.storage.tables import write_table
from tasks.weights import read_dual_head
from tests.worlds.embedding import tasks_here
from tests.worlds.stages import CLASSES, images
from tests.worlds.two_peers import DIM, World, write_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return two peers and what they see; work is done in this process."""
    for module in (neighbours, "tasks.compute.map_parts", "tasks.label.cross_filter"):
        name = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{name}.run_tasks", tasks_here)
    return write_world(tmp_path)


def spec(place: Path, **changes: int) -> CoftSpec:
    return CoftSpec(
        pool=PoolSpec(images="memory://"),
        method="coft-plus",
        plus=PlusSpec(neighbours=NeighboursSpec(k=4, **changes)),
        phase2=Phase2Spec(holdout=0.0, min_kept=0),
        runtime=RuntimeSpec(workspace=str(place / "workspace")),
    )


def label(
    world: World, settings: CoftSpec, answers: AnswersRef | None = None
) -> tuple[LabelsRef, list[dict[str, object]]]:
    pool, peers, features, _ = world
    last = Phase1Round(confident=(), peers=tuple(peers), features=tuple(features))
    labels = label_by_neighbours.fn(last, *pool, settings, answers)
    rows: list[dict[str, object]] = pa.concat_tables(iter_tables(labels.uri)).to_pylist()
    return labels, rows


def in_memory(world: World) -> tuple[list[str], torch.Tensor]:
    """Return the pool's ids and what is believed of them in the end, by the science alone."""
    _, peers, _, tensors = world
    rows = images(DIM)[0].to_pylist()
    keep = [n for n, r in enumerate(rows) if r["split"] == "pool" and r["duplicate_of"] is None]
    seen = [one["features"][keep] for one in tensors]
    heads = [read_dual_head(peer.uri).positive for peer in peers]
    said = [head.probabilities(one) for head, one in zip(heads, seen, strict=True)]
    spread = propagate(sum(said) / 2, affinity_graph(seen, k=4))
    return [rows[n]["image_id"] for n in keep], spread


def test_labels_of_all_parts_are_those_of_one_graph(world: World, tmp_path: Path) -> None:
    _, rows = label(world, spec(tmp_path))
    ids, spread = in_memory(world)
    confidence, labels = spread.max(dim=1)
    assert [row["image_id"] for row in rows] == ids
    assert [row["label"] for row in rows] == [CLASSES[label] for label in labels]
    assert [row["confidence"] for row in rows] == pytest.approx(confidence.tolist(), abs=1e-5)
    _, peers, _, tensors = world
    own = read_dual_head(peers[0].uri).positive.probabilities(tensors[0]["features"])
    assert [CLASSES[label] for label in own.argmax(dim=1)] != [row["label"] for row in rows]


def test_of_a_larger_pool_the_others_listen_to_the_graph(world: World, tmp_path: Path) -> None:
    """Their labels are nearly those that they would have in it; those of the graph are its own."""
    _, whole = label(world, spec(tmp_path))
    _, rows = label(world, spec(tmp_path, max_images=len(whole) - 12))
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in whole]
    same = [one["label"] == two["label"] for one, two in zip(rows, whole, strict=True)]
    assert sum(same) >= 0.8 * len(rows)
    assert rows != whole


def test_what_people_answered_is_believed(world: World, tmp_path: Path) -> None:
    _, before = label(world, spec(tmp_path))
    first = before[0]
    other = next(name for name in CLASSES if name != first["label"])
    table = pa.table({"image_id": [first["image_id"]], "kind": ["label"], "label": [other]})
    uri = str(tmp_path / "answers.parquet")
    write_table(uri, table)
    answers = AnswersRef(uri=uri, digest="answers", num_labels=1)
    _, after = label(world, spec(tmp_path), answers)
    changed = [one["image_id"] for one, two in zip(before, after, strict=True) if one != two]
    assert first["image_id"] in changed
    assert len(changed) > 1, "neighbours hear of it"


def test_both_peers_judge_the_labels_of_the_neighbours(world: World, tmp_path: Path) -> None:
    settings = spec(tmp_path)
    proposed, rows = label(world, settings)
    pool, peers, features, tensors = world
    found = cross_filter.fn(peers, features, *pool, settings, proposed=proposed)
    numbers = {row["image_id"]: n for n, row in enumerate(images(DIM)[0].to_pylist())}
    for own, labels in enumerate(found):
        judged = pa.concat_tables(iter_tables(labels.uri)).to_pylist()
        assert [row["label"] for row in judged] == [row["label"] for row in rows]
        other = tensors[1 - own]
        for row in judged:
            seen = other["features"][numbers[row["image_id"]]]
            label_number = CLASSES.index(row["label"])
            gap = seen @ (other["positive"][label_number] - other["negative"][label_number])
            assert row["kept"] == (float(gap) > 0)
    plain = cross_filter.fn(peers, features, *pool, settings)
    assert {one.digest for one in plain}.isdisjoint(one.digest for one in found)
