"""The images of a run range by range, each with the parts of other stages that are about them.

Stages are sorted by image id. They need not be cut where the images are: another run, or a store
that several runs share, has its own cuts. A shard knows which of their files meet its range.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.on_demand import OnDemand
from tasks.pool.readers import read_images
from tasks.refs import EmbeddingsRef, ImagesRef, Ref, Split
from tasks.storage.columns import matrix_of
from tasks.storage.ranges import Span, overlaps, span_of
from tasks.storage.stage import finished, part_uris
from tasks.storage.store import read_keys
from tasks.storage.uris import join

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:  # who asks about a workspace needs the columns alone
    torch = OnDemand("torch")

ID = "image_id"


@dataclass(frozen=True)
class Shard:
    """A range of image ids: its part of the images, and the parts of stages that meet it.

    Attributes:
        images: URI of the part of the images.
        stages: For each stage the URIs of its parts that may have rows about these images.
    """

    images: str
    stages: tuple[tuple[str, ...], ...] = ()

    @property
    def span(self) -> Span:
        """Return the range of ids, which names what is made of this shard."""
        return span_of(self.images)

    def read_images(self, columns: Sequence[str], split: Split | None = None) -> pa.Table:
        """Return the distinct images, of one split or of both."""
        return read_images(self.images, columns, split)

    def read(self, stage: int, columns: Sequence[str], split: Split | None = None) -> pa.Table:
        """Return what a stage says of the distinct images that it knows, in the order of ids."""
        ids = self.read_images([ID], split)[ID].combine_chunks()
        return read_keys(ids, self.stages[stage], ID, columns).select(list(columns))

    def features(self, stage: int = 0, split: Split | None = None) -> "tuple[pa.Array, Tensor]":
        """Return the ids and the features, fp32 of shape (images, dim), of what was embedded."""
        table = self.read(stage, [ID, "embedding"], split)
        return table[ID].combine_chunks(), matrix_of(table)

    def features_of_all(self, split: Split | None = None) -> "tuple[pa.Array, list[Tensor]]":
        """Return the ids of what every stage has embedded, and the features of each stage."""
        seen = [self.features(number, split) for number, _ in enumerate(self.stages)]
        common = seen[0][0]
        for ids, _ in seen[1:]:  # a tower may lack an image that another one could read
            common = common.filter(pc.is_in(common, ids))
        return common, [features[_positions(common, ids)] for ids, features in seen]


def shards(images: ImagesRef, *stages: Ref) -> list[Shard]:
    """Return the parts of the images in the order of ids, each with what stages have about it."""
    return shards_of(part_uris(images.uri), [files_of(stage) for stage in stages])


def shards_of(images: Sequence[str], stages: Sequence[Sequence[str]]) -> list[Shard]:
    """Return shards of the parts of images, and of stages that have a part each at least."""
    spans = [span_of(uri) for uri in images]
    beside = [_beside(files, spans) for files in stages]
    return [Shard(uri, tuple(parts[n] for parts in beside)) for n, uri in enumerate(images)]


def read_beside(
    images: ImagesRef, stage: Ref, columns: Sequence[str], *, of_images: Sequence[str] = (ID, "uri")
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield what a stage says, each part with the distinct images that it is about."""
    for shard in shards(images, stage):
        yield shard.read(0, columns), shard.read_images(of_images)


def files_of(stage: Ref) -> list[str]:
    """Return the parts of a stage, for embeddings those parts of the store that a run refers to."""
    if isinstance(stage, EmbeddingsRef) and stage.run:
        return [join(stage.uri, part.name) for part in finished(stage.run).parts]
    return part_uris(stage.uri)


def _positions(wanted: pa.Array, ids: pa.Array) -> "Tensor":
    return torch.from_numpy(pc.index_in(wanted, ids).to_numpy().astype(np.int64))


def _beside(files: Sequence[str], spans: Sequence[Span]) -> list[tuple[str, ...]]:
    """Return the files for each range, one at least: it has the columns."""
    return [tuple(found or files[:1]) for found in overlaps(files, spans)]
