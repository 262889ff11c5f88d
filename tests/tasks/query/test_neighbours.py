"""Neighbours block by block against one whole matrix product."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.query import neighbours
from tasks.query.contents import choose
from tasks.query.questions import duplicates, similar
from tasks.specs import InputError
from tests.worlds import workspace as made
from tests.worlds.memory import traced_memory
from tests.worlds.workspace import Made, cosines


@pytest.mark.parametrize("number", [0, 17, 47])
def test_similar_equals_the_whole_product(filled: Made, number: int) -> None:
    found = similar(filled.uri, filled.ids[number], 6)
    row = cosines(filled)[number]
    order = [other for other in np.argsort(-row) if other != number][:6]
    assert found["image_id"].to_pylist() == [filled.ids[other] for other in order]
    assert np.allclose(found["similarity"].to_numpy(), row[order], atol=1e-5)
    assert found["uri"].to_pylist() == [f"photos/{other}.png" for other in order]


@pytest.mark.parametrize("block", [1, 800, 2**26])
def test_duplicates_are_all_pairs_above_the_threshold(
    filled: Made, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", block)
    monkeypatch.setattr(neighbours, "TILE_BYTES", block)
    for threshold in (0.99, 0.4):
        found = duplicates(filled.uri, threshold).to_pylist()
        exact = [(row["uri"], row["other_uri"]) for row in found if row["kind"] == "exact"]
        assert exact == [("photos/0.png", "photos/copy.png")]
        near = {(row["image_id"], row["other_image_id"]) for row in found if row["kind"] == "near"}
        one, two = np.nonzero(np.triu(cosines(filled) >= threshold, 1))
        pairs = zip(one.tolist(), two.tolist(), strict=True)
        assert near == {(filled.ids[a], filled.ids[b]) for a, b in pairs}
    assert len(duplicates(filled.uri, 0.99)) == 3


def test_a_limit_keeps_the_most_similar_pairs(
    filled: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", 1)
    values = np.sort(cosines(filled)[np.triu_indices(48, 1)])[::-1][:7]
    found = duplicates(filled.uri, 0.01, limit=7)
    near = [row["similarity"] for row in found.to_pylist() if row["kind"] == "near"]
    assert np.allclose(near, values, atol=1e-5)
    with pytest.raises(InputError, match=r"above 0 and at most 1, got 1\.5"):
        duplicates(filled.uri, 1.5)


def test_memory_does_not_grow_with_the_parts(tmp_path: Path) -> None:
    """One part at a time is held: 40 MB of vectors pass through less than half of that."""
    uri, rows, dim = str(tmp_path), 20_480, 512
    ids = made.write_pool(uri, "p" * 16, list(range(rows)), parts_of=1024)
    made.write_embeddings(uri, "e" * 16, ids, made.unit_vectors(rows, dim), parts_of=1024)
    pool = pa.default_memory_pool()
    start = pool.bytes_allocated()
    peak = 0
    with traced_memory() as bytes_held:
        chosen = choose(uri)
        assert chosen.embeddings is not None
        shards = chosen.shards(chosen.embeddings)
        for _, vectors in neighbours.features(shards):
            held = pool.bytes_allocated() - start + bytes_held()[0]
            peak = max(peak, held + vectors.nbytes)
    assert peak < 20 * 2**20
    blocks = [len(block) * dim * 4 for _, _, block in neighbours._blocks(shards)]
    assert max(blocks) <= neighbours.BLOCK_BYTES + 1024 * dim * 4
