"""What steps read of a pool: its distinct images, where they are, and their labels."""

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from tasks.refs import LabelsRef, PoolRef, Reason
from tasks.specs import InputError
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import part_uris
from tasks.storage.tables import read_table


def training_rows(labels: LabelsRef, pool: PoolRef) -> tuple[list[str], Tensor]:
    """Return the URIs and class numbers of the labels that were kept, in the pool's order.

    Only these two columns are held: about a hundred bytes an image.
    """
    uris: list[str] = []
    numbers: list[int] = []
    names = pa.array(pool.classes, pa.string())
    images = iter_tables(pool.uri, ["image_id", "uri", "duplicate_of"])
    for part, table in zip(
        iter_tables(labels.uri, ["image_id", "label", "kept"]), images, strict=True
    ):
        kept = part.filter(part["kept"])
        known = table.filter(table["duplicate_of"].is_null())
        rows = pc.index_in(kept["image_id"], known["image_id"].combine_chunks())
        uris += known["uri"].take(rows).to_pylist()
        numbers += pc.index_in(kept["label"], names).to_pylist()
    if not uris:
        raise InputError(
            f"No label of {labels.source} was kept, so there is nothing to learn from. Check that "
            "the class names fit the images, or try another backbone."
        )
    return uris, torch.tensor(numbers)


def held_out_rows(labels: LabelsRef, pool: PoolRef) -> tuple[list[str], list[str]]:
    """Return the ids and URIs of the images that a labelling holds out for the guard."""
    ids: list[str] = []
    uris: list[str] = []
    images = iter_tables(pool.uri, ["image_id", "uri", "duplicate_of"])
    for part, table in zip(iter_tables(labels.uri, ["image_id", "reason"]), images, strict=True):
        out = part.filter(pc.equal(part["reason"], Reason.HELD_OUT))
        known = table.filter(table["duplicate_of"].is_null())
        rows = pc.index_in(out["image_id"], known["image_id"].combine_chunks())
        ids += out["image_id"].to_pylist()
        uris += known["uri"].take(rows).to_pylist()
    return ids, uris


def only_pool(table: pa.Table, pool_uri: str, number: int) -> pa.Table:
    """Drop the rows of the test split: they are never trained on, nor counted in choosing."""
    images = read_table(part_uris(pool_uri)[number], ["image_id", "split", "duplicate_of"])
    keep = pc.and_(pc.equal(images["split"], "pool"), images["duplicate_of"].is_null())
    return table.filter(
        pc.is_in(table["image_id"], images.filter(keep)["image_id"].combine_chunks())
    )
