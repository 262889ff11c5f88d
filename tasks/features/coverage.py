"""Which images of a run a tower has seen, shard by shard."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow.compute as pc

from tasks.features.actor import bad_images
from tasks.features.towers import Tower
from tasks.pool.shards import ID, Shard, shards
from tasks.refs import ImagesRef
from tasks.storage.ranges import overlaps
from tasks.storage.store import absent_keys
from tasks.storage.tables import read_table

READERS = 8  # threads that look into stored parts


@dataclass(frozen=True)
class Cover:
    """What a tower has of one shard.

    Attributes:
        used: Parts with features of its images, and the rows of each.
        absent: Images without features.
        missing: Those of them that are not known to be bad.
    """

    used: dict[str, int]
    absent: int
    missing: int


def stored(images: ImagesRef, tower: Tower, workspace: str) -> list[Shard]:
    """Return the shards of images, with what a tower has of each: features, and bad images."""
    features = tower.features(workspace)
    parts = shards(images)
    spans = [part.span for part in parts]
    stages = [overlaps(store.uris(), spans) for store in (features, bad_images(features))]
    beside = zip(parts, *stages, strict=True)
    return [replace(part, stages=(tuple(seen), tuple(bad))) for part, seen, bad in beside]


def covers(parts: Sequence[Shard]) -> Iterator[Cover]:
    """Yield what is there for each of the shards that `stored` returned, in their order."""
    with ThreadPoolExecutor(READERS) as readers:
        yield from readers.map(_cover, parts)


def _cover(shard: Shard) -> Cover:
    ids = shard.read_images([ID])[ID].combine_chunks()
    features, bad = shard.stages
    used = {}
    for uri in features:
        known = read_table(uri, [ID])[ID].combine_chunks()
        rest = ids.filter(pc.invert(pc.is_in(ids, known)))
        if len(rest) < len(ids):
            used[uri.rpartition("/")[2]] = len(known)
        ids = rest
    return Cover(used, len(ids), len(absent_keys(ids, bad, ID)))
