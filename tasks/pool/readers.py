"""What steps read of a pool: its distinct images, where they are, and their labels.

An image that repeats an earlier one (`duplicate_of`) is in the pool's files and in no stage that is
made of them. Parts of such a stage stand beside the parts of the pool, in their order.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from tasks.refs import LabelsRef, PoolRef, Reason, Split
from tasks.specs import InputError
from tasks.storage.columns import class_numbers
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import part_uris
from tasks.storage.tables import read_table


def distinct(images: pa.Table, split: Split | None = None) -> pa.Table:
    """Return the rows that repeat no earlier image, of one split or of both."""
    images = images.filter(images["duplicate_of"].is_null())
    return images if split is None else images.filter(pc.equal(images["split"], split))


def read_images(uri: str, columns: Sequence[str], split: Split | None = None) -> pa.Table:
    """Return the distinct images of one part of a pool, by the part's URI."""
    return distinct(read_table(uri, _needed(columns, split)), split).select(list(columns))


def iter_images(
    pool: PoolRef, columns: Sequence[str], split: Split | None = None
) -> Iterator[pa.Table]:
    """Yield the distinct images of a pool, part by part."""
    for table in iter_tables(pool.uri, _needed(columns, split)):
        yield distinct(table, split).select(list(columns))


def _needed(columns: Sequence[str], split: Split | None) -> list[str]:
    more = ("duplicate_of",) if split is None else ("duplicate_of", "split")
    return [*columns, *(name for name in more if name not in columns)]


def value_of(images: pa.Table, ids: Any, column: str) -> Any:
    """Return a column of images by their ids, null where an id is not among them."""
    rows = pc.index_in(ids, images["image_id"].combine_chunks())
    return images[column].take(rows)


def true_labels(images: pa.Table, ids: Any, classes: Sequence[str]) -> Tensor:
    """Return the class numbers of images by their ids, -1 where there is no label."""
    return class_numbers(classes, value_of(images, ids, "label"))


def find_images(
    pool: PoolRef, ids: Collection[str], columns: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return columns of a few images by their ids; an id that is not in the pool is left out."""
    wanted = pa.array(sorted(ids), pa.string())
    images: dict[str, dict[str, Any]] = {}
    for table in iter_images(pool, ["image_id", *columns]) if len(wanted) else ():
        for row in table.filter(pc.is_in(table["image_id"], wanted)).to_pylist():
            images[row.pop("image_id")] = row
    return images


def uris_of(pool: PoolRef, ids: Sequence[str]) -> list[str]:
    """Return where images are, in the order of the ids.

    Raises:
        KeyError: an id is not in the pool.
    """
    images = find_images(pool, ids, ["uri"])
    return [images[image]["uri"] for image in ids]


def of_pool_split(table: pa.Table, pool: PoolRef, number: int) -> pa.Table:
    """Return the rows about images of the pool split: test images are never trained on.

    Args:
        table: Rows with `image_id`.
        pool: The images.
        number: Which part of the pool the rows belong to.
    """
    images = read_images(part_uris(pool.uri)[number], ["image_id"], "pool")
    return table.filter(pc.is_in(table["image_id"], images["image_id"].combine_chunks()))


def training_rows(labels: LabelsRef, pool: PoolRef) -> tuple[list[str], list[str], Tensor]:
    """Return ids, URIs and class numbers of the labels that were kept, in the pool's order.

    Only these columns are held: about two hundred bytes an image.

    Raises:
        InputError: no label was kept.
    """
    ids: list[str] = []
    uris: list[str] = []
    numbers = [torch.zeros(0, dtype=torch.long)]
    for part, images in _beside(labels, pool, ["image_id", "label", "kept"]):
        kept = part.filter(part["kept"])
        ids += kept["image_id"].to_pylist()
        uris += value_of(images, kept["image_id"], "uri").to_pylist()
        numbers.append(class_numbers(pool.classes, kept["label"]))
    if not uris:
        raise InputError(
            f"No label of {labels.source} was kept, so there is nothing to learn from. Check that "
            "the class names fit the images, or try another backbone."
        )
    return ids, uris, torch.cat(numbers)


def held_out_rows(labels: LabelsRef, pool: PoolRef) -> tuple[list[str], list[str]]:
    """Return the ids and URIs of the images that a labelling holds out for the guard."""
    ids: list[str] = []
    uris: list[str] = []
    for part, images in _beside(labels, pool, ["image_id", "reason"]):
        held_out = part.filter(pc.equal(part["reason"], Reason.HELD_OUT))["image_id"]
        ids += held_out.to_pylist()
        uris += value_of(images, held_out, "uri").to_pylist()
    return ids, uris


def _beside(
    labels: LabelsRef, pool: PoolRef, columns: Sequence[str]
) -> Iterable[tuple[pa.Table, pa.Table]]:
    """Return the parts of a labelling, each with the images that it is about."""
    images = iter_images(pool, ["image_id", "uri"])
    return zip(iter_tables(labels.uri, columns), images, strict=True)
