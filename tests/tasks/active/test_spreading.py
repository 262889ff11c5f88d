"""Pseudo-labels by neighbours of answers, on files: the same however they are cut."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from clipcore.active.spreading import spread, with_answers
from clipcore.propagation import fitting_k
from tasks.active import spreading
from tasks.active.spreading import spread_predictions
from tasks.pool.shards import Shard, shards
from tasks.refs import AnswersRef, Ref
from tasks.storage.columns import matrix_of
from tasks.storage.tables import write_table
from tests.worlds.stages import CLASSES, COUNT, cut, images, stage, write_stages
from tests.worlds.tensors import draws

DIM = 8
ANSWERED = (3, 20, 65)  # rows of the pool by id


@pytest.fixture
def answers(tmp_path: Path) -> AnswersRef:
    ids = pool_ids()
    rows = [{"image_id": ids[row], "label": CLASSES[1], "kind": "label"} for row in ANSWERED]
    rows.append({"image_id": ids[5], "label": None, "kind": "skip"})
    uri = str(tmp_path / "answers.parquet")
    write_table(uri, pa.Table.from_pylist(rows))
    return AnswersRef(uri=uri, digest="answers")


def pool_ids() -> list[str]:
    ids: list[str] = images(DIM)[0]["image_id"].to_pylist()
    return ids


def probabilities() -> Tensor:
    return torch.randn(COUNT, len(CLASSES), generator=draws(3)).softmax(dim=1)


def parts(folder: Path, rows: int) -> list[Shard]:
    """Write images, features and scores, so many in a file."""
    pool, features, _, _ = write_stages(folder, rows, DIM)
    said = pa.array(list(probabilities().numpy()), pa.list_(pa.float32()))
    table = pa.table({"image_id": pool_ids(), "probabilities": said})
    uri = stage(folder / "scores", cut(table, rows), digest="scores")
    return shards(pool[0], features, Ref(uri=uri, digest="scores"))


def told(found: list[Shard], answers: AnswersRef) -> tuple[list[str], Tensor, Tensor]:
    said = list(spread_predictions(found, answers, CLASSES))
    ids = [image for names, _, _ in said for image in names.to_pylist()]
    return ids, torch.cat([labels for _, labels, _ in said]), torch.cat([sure for *_, sure in said])


def known() -> tuple[list[str], Tensor, Tensor]:
    """Return ids, features and beliefs of the pool, by id."""
    table, embeddings, _ = images(DIM)
    rows = [
        row
        for row, one in enumerate(table.to_pylist())
        if one["split"] == "pool" and one["duplicate_of"] is None
    ]
    labels = torch.tensor([1 if row in ANSWERED else -1 for row in range(COUNT)])
    beliefs = with_answers(probabilities(), labels)
    return [pool_ids()[row] for row in rows], matrix_of(embeddings)[rows], beliefs[rows]


@pytest.mark.parametrize("rows", [7, 64, COUNT])
def test_files_say_what_memory_says(tmp_path: Path, answers: AnswersRef, rows: int) -> None:
    ids, features, beliefs = known()
    sure, labels = spread(beliefs, features).max(dim=1)
    found = told(parts(tmp_path / "stages", rows), answers)
    assert found[0] == ids
    assert torch.equal(found[1], labels)
    assert torch.equal(found[2], sure)


def test_of_a_large_pool_answers_and_the_lowest_ids_are_the_graph(
    tmp_path: Path, answers: AnswersRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreading, "MAX_IMAGES", 30)
    ids, features, beliefs = known()
    answered = [row for row, image in enumerate(ids) if pool_ids().index(image) in ANSWERED]
    assert len(answered) == 3
    others = [row for row in range(len(ids)) if row not in answered]
    graph = sorted([*others[:30], *answered])
    heard = spread(beliefs[graph], features[graph])
    expected = []
    for row in range(len(ids)):
        if row in graph:
            expected.append(heard[graph.index(row)])
            continue
        near = sorted(range(len(graph)), key=lambda j: -float(features[row] @ features[graph[j]]))
        near = near[: fitting_k(len(graph), len(CLASSES))]
        weights = torch.stack([(features[row] @ features[graph[j]]).clamp(min=0) for j in near])
        mean = (weights[:, None] * heard[near]).sum(dim=0) / weights.sum()
        expected.append(0.9 * mean + 0.1 * beliefs[row])
    found = told(parts(tmp_path / "stages", 7), answers)
    assert found[0] == ids
    torch.testing.assert_close(found[2], torch.stack(expected).amax(dim=1))
