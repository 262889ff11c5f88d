"""The images of a query, small enough to stand inside of a file, a batch at a time."""

from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa

from tasks.pages.pictures import read_pictures, within

_BATCH = 256  # images; what is held of them is small, and a Parquet file is opened once for each


def rows_with_pictures(
    query: pa.Table, *, side: int, max_pixels: int, inline: Collection[str] | None = None
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield the rows of a query by their position, each with its image as a data URI.

    Args:
        query: The images that are asked about (schema `QUERY`).
        side: Pixels of the longer side of a picture, at most.
        max_pixels: A larger image is not decoded.
        inline: The URIs of the images that are wanted; by default all.

    Yields:
        The row, and None for an image that cannot be read or is not wanted.
    """
    for batch in query.sort_by("position").to_batches(max_chunksize=_BATCH):
        rows = batch.to_pylist()
        uris = [row["uri"] for row in rows if inline is None or row["uri"] in inline]
        pictures = read_pictures(uris, within(side), max_pixels=max_pixels)
        for row in rows:
            yield row, pictures.get(row["uri"])
