"""Images as parts: sorted by id, equal ones marked, cut where a number of distinct ones is full."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.pool.catalog import IMAGES


@dataclass
class Content:
    """What images there are, whatever they are called: the digest of (image id, split), and counts.

    Attributes:
        num_rows: All images, copies included.
        splits: Distinct images of each split.
    """

    num_rows: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    _sha: Any = field(default_factory=hashlib.sha256)

    def add(self, images: pa.Table) -> None:
        """Add images in the order of their ids."""
        own = images.filter(images["duplicate_of"].is_null())
        lines = pc.binary_join_element_wise(own["image_id"], own["split"], " ").to_pylist()
        self._sha.update("".join(f"{line}\n" for line in lines).encode())
        self.splits.update(own["split"].to_pylist())
        self.num_rows += images.num_rows

    @property
    def digest(self) -> str:
        """Return 16 hex digits of the content so far."""
        digest: str = self._sha.hexdigest()[:16]
        return digest


def mark_duplicates(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Add `duplicate_of` to images that come by id: the URI of the first one of equal content."""
    last_id, last_uri = None, None
    for table in filter(len, tables):
        ids = table["image_id"].to_numpy()
        uris = table["uri"].to_numpy()
        is_first = np.append(ids[:1] != last_id, ids[1:] != ids[:-1])
        firsts = np.maximum.accumulate(np.where(is_first, np.arange(len(ids)), -1))
        originals = uris[firsts]
        originals[firsts < 0] = last_uri
        originals[is_first] = None
        last_id, last_uri = ids[-1], last_uri if firsts[-1] < 0 else uris[firsts[-1]]
        yield table.append_column("duplicate_of", pa.array(originals, pa.string())).cast(IMAGES)


def cut(tables: Iterable[pa.Table], distinct: int) -> Iterator[pa.Table]:
    """Cut marked images into parts of so many distinct ones, each with its copies."""
    waiting, count = list[pa.Table](), 0
    for table in filter(len, tables):
        numbers = count + np.cumsum(table["duplicate_of"].is_null().to_numpy())
        start = 0
        for full in range(distinct, int(numbers[-1]), distinct):
            end = int(np.searchsorted(numbers, full, side="right"))
            yield pa.concat_tables([*waiting, table.slice(start, end - start)])
            waiting, start = [], end
        count = int(numbers[-1]) - (int(numbers[-1]) - 1) // distinct * distinct
        waiting.append(table.slice(start))
    if waiting:
        yield pa.concat_tables(waiting)
