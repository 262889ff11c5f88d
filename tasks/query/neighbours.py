"""Exact neighbours by matrix products over the parts of embeddings, in bounded memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.pool.shards import Shard
from tasks.storage.ranges import DIGITS, Span

BLOCK_BYTES = 64 * 2**20  # of vectors that stay in memory while the others are read
TILE_BYTES = 64 * 2**20  # of one matrix of similarities


def features(shards: Sequence[Shard]) -> Iterator[tuple[Any, Tensor]]:
    """Yield ids and unit vectors, shape (images, dim), of each shard."""
    for shard in shards:
        ids, vectors = shard.features()
        yield ids, F.normalize(vectors, dim=1)


def vector_of(shards: Sequence[Shard], image_id: str) -> Tensor | None:
    """Return the unit vector of one image, shape (dim,); None if it has none."""
    own = Span(image_id[:DIGITS], image_id[:DIGITS])
    for ids, vectors in features([shard for shard in shards if shard.span.meets(own)]):
        if (row := ids.index(image_id).as_py()) >= 0:
            return vectors[row]
    return None


def nearest(
    shards: Sequence[Shard], query: Tensor, k: int, *, without: str
) -> list[tuple[str, float]]:
    """Return ids and cosines of the k images most similar to a unit vector, best first.

    Args:
        shards: Images with their embeddings.
        query: Unit vector of shape (dim,).
        k: Number of images.
        without: Id of an image to leave out.
    """
    best: list[tuple[str, float]] = []
    for ids, vectors in features(shards):
        values, rows = (vectors @ query).topk(min(k + 1, len(vectors)))
        names = [ids[row].as_py() for row in rows.tolist()]
        candidates = zip(names, values.tolist(), strict=True)
        best += [(name, value) for name, value in candidates if name != without]
        best = sorted(best, key=lambda pair: (-pair[1], pair[0]))[:k]
    return best


def close_pairs(
    shards: Sequence[Shard], threshold: float, *, limit: int
) -> list[tuple[str, str, float]]:
    """Return the `limit` most similar pairs of images with a cosine of at least `threshold`.

    Every image is compared with every other, block by block: time grows with the square of their
    number, memory does not grow.

    Returns:
        (image id, other id, cosine), best first.
    """
    best = torch.zeros(0), torch.zeros(0, 2, dtype=torch.long)
    for first, offset, block in _blocks(shards):
        start = offset
        for _, vectors in features(shards[first:]):
            for rows, cosines in _tiles(vectors, block):
                floor = threshold if len(best[0]) < limit else max(threshold, float(best[0].min()))
                one, two = (cosines >= floor).nonzero(as_tuple=True)
                pairs = torch.stack([two + offset, one + start + rows], dim=1)
                ordered = pairs[:, 0] < pairs[:, 1]  # each pair once, no image with itself
                best = _keep_best(best, (cosines[one, two][ordered], pairs[ordered]), limit)
            start += len(vectors)
    values, pairs = best
    order = values.argsort(descending=True, stable=True)
    names = _ids_at(shards, sorted(set(pairs.flatten().tolist())))
    return [
        (names[one], names[two], value)
        for (one, two), value in zip(pairs[order].tolist(), values[order].tolist(), strict=True)
    ]


def _blocks(shards: Sequence[Shard]) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (number of the first part, images before it, vectors) of groups of parts."""
    first, offset, parts = 0, 0, list[Tensor]()
    for number, (_, vectors) in enumerate(features(shards)):
        parts.append(vectors)
        if sum(part.nbytes for part in parts) >= BLOCK_BYTES:
            block = torch.cat(parts)
            yield first, offset, block
            first, offset, parts = number + 1, offset + len(block), []
    if parts:
        yield first, offset, torch.cat(parts)


def _tiles(vectors: Tensor, block: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield (first row, cosines of some vectors with the whole block)."""
    rows = max(1, TILE_BYTES // max(1, 4 * len(block)))
    for start in range(0, len(vectors), rows):
        yield start, vectors[start : start + rows] @ block.T


def _keep_best(
    best: tuple[Tensor, Tensor], more: tuple[Tensor, Tensor], limit: int
) -> tuple[Tensor, Tensor]:
    if not len(more[0]):
        return best
    values, pairs = torch.cat([best[0], more[0]]), torch.cat([best[1], more[1]])
    if len(values) <= limit:
        return values, pairs
    values, order = values.topk(limit)
    return values, pairs[order]


def _ids_at(shards: Sequence[Shard], positions: Sequence[int]) -> dict[int, str]:
    """Return the image ids at positions counted over all parts."""
    names: dict[int, str] = {}
    remaining, start = list(reversed(positions)), 0
    for shard in shards if positions else ():
        ids = shard.read(0, ["image_id"])["image_id"]
        while remaining and remaining[-1] < start + len(ids):
            position = remaining.pop()
            names[position] = ids[position - start].as_py()
        start += len(ids)
    return names
