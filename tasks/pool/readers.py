"""What steps read of the images of a run: which there are, and where.

Images are sorted by id. An image that repeats another one (`duplicate_of`) is in the files of the
images and in no stage that is made of them.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.refs import ImagesRef, Split
from tasks.storage.manifest import iter_tables
from tasks.storage.ranges import DIGITS, Span, overlaps
from tasks.storage.stage import part_uris
from tasks.storage.tables import read_table


def distinct(images: pa.Table, split: Split | None = None) -> pa.Table:
    """Return the rows that repeat no earlier image, of one split or of both."""
    images = images.filter(images["duplicate_of"].is_null())
    return images if split is None else images.filter(pc.equal(images["split"], split))


def read_images(uri: str, columns: Sequence[str], split: Split | None = None) -> pa.Table:
    """Return the distinct images of one part, by its URI."""
    return distinct(read_table(uri, _needed(columns, split)), split).select(list(columns))


def iter_images(
    images: ImagesRef, columns: Sequence[str], split: Split | None = None
) -> Iterator[pa.Table]:
    """Yield the distinct images, part by part."""
    for table in iter_tables(images.uri, _needed(columns, split)):
        yield distinct(table, split).select(list(columns))


def _needed(columns: Sequence[str], split: Split | None) -> list[str]:
    more = ("duplicate_of",) if split is None else ("duplicate_of", "split")
    return [*columns, *(name for name in more if name not in columns)]


def value_of(images: pa.Table, ids: Any, column: str) -> Any:
    """Return a column of images by their ids, null where an id is not among them."""
    rows = pc.index_in(ids, images["image_id"].combine_chunks())
    return images[column].take(rows)


def find_images(
    images: ImagesRef, ids: Collection[str], columns: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return columns of a few images by their ids; an id that is not among them is left out."""
    wanted = sorted(set(ids))
    spans = [Span(image[:DIGITS], image[:DIGITS]) for image in wanted]
    parts = {uri for uris in overlaps(part_uris(images.uri), spans) for uri in uris}
    found: dict[str, dict[str, Any]] = {}
    for uri in sorted(parts):
        table = read_images(uri, ["image_id", *columns])
        for row in table.filter(pc.is_in(table["image_id"], pa.array(wanted))).to_pylist():
            found[row.pop("image_id")] = row
    return found


def uris_of(images: ImagesRef, ids: Sequence[str]) -> list[str]:
    """Return where images are, in the order of the ids.

    Raises:
        KeyError: an id is not among the images.
    """
    found = find_images(images, ids, ["uri"])
    return [found[image]["uri"] for image in ids]
