"""How typical an image is of its class: its cosine with the mean direction of the class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.pool.shards import Shard
from tasks.query.neighbours import features

UNLABELLED = ""  # the class of all images when there are no labels


@dataclass(frozen=True)
class Centres:
    """Class names with the mean directions of their images, shape (classes, dim)."""

    names: list[str]
    directions: Tensor


def centres(shards: Sequence[Shard]) -> Centres:
    """Return the mean directions of all classes, in one pass over the embeddings."""
    names, directions = list[str](), torch.zeros(0, 0)
    for _, vectors, labels in _labelled(shards):
        names += [name for name in sorted(set(labels)) if name not in names]
        numbers = torch.tensor([names.index(name) for name in labels], dtype=torch.long)
        sums = torch.zeros(len(names), vectors.shape[1], dtype=torch.float64)
        if len(directions):
            sums[: len(directions)] += directions
        directions = sums.index_add(0, numbers, vectors.double())
    return Centres(names, F.normalize(directions, dim=1).float())


def least_typical(
    shards: Sequence[Shard], k: int
) -> tuple[list[tuple[str, str, float]], dict[str, float]]:
    """Return the k images with the lowest cosine with the centre of their class, lowest first.

    Args:
        shards: Images with their embeddings, and with labels or predictions as a second stage;
            without it all images are in one class.
        k: Number of images.

    Returns:
        (image id, class, cosine) of each, and the mean cosine of each class.
    """
    class_centres = centres(shards)
    number = {name: position for position, name in enumerate(class_centres.names)}
    sums, counts = torch.zeros(len(number)), torch.zeros(len(number))
    worst: list[tuple[str, str, float]] = []
    for ids, vectors, labels in _labelled(shards):
        own = torch.tensor([number[name] for name in labels], dtype=torch.long)
        cosines = (vectors * class_centres.directions[own]).sum(dim=1)
        sums.index_add_(0, own, cosines)
        counts.index_add_(0, own, torch.ones_like(cosines))
        values, rows = cosines.topk(min(k, len(cosines)), largest=False)
        lowest = zip(rows.tolist(), values.tolist(), strict=True)
        worst += [(ids[row].as_py(), labels[row], value) for row, value in lowest]
        worst = sorted(worst, key=lambda row: (row[2], row[0]))[:k]
    means = (sums / counts).tolist()
    return worst, dict(zip(class_centres.names, means, strict=True))


def _labelled(shards: Sequence[Shard]) -> Iterator[tuple[pa.Array, Tensor, list[str]]]:
    """Yield ids, unit vectors and labels of the images of each shard that have both."""
    for shard, (ids, vectors) in zip(shards, features(shards), strict=True):
        if len(shard.stages) == 1:
            yield ids, vectors, [UNLABELLED] * len(ids)
            continue
        table = shard.read(1, ["image_id", "label"])
        rows = pc.index_in(ids, table["image_id"].combine_chunks())
        labelled = rows.is_valid()
        names = table["label"].take(rows.drop_null()).to_pylist()
        yield ids.filter(labelled), vectors[torch.from_numpy(labelled.to_numpy(False))], names  # noqa: FBT003
