"""An actor that holds towers and embeds the images whose features are missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore.inference import BatchSize, Encoder
from tasks.features.towers import Tower
from tasks.images.pixels import batches, pixels_of_run
from tasks.images.quarantine import MAY_PASS, SCHEMA, Quarantined
from tasks.pool.shards import ID, Shard
from tasks.specs import PoolSpec
from tasks.storage.columns import fixed_size_list
from tasks.storage.layout import QUARANTINE
from tasks.storage.store import Store, absent_keys
from tasks.storage.uris import join

BAD = pa.schema([pa.field(ID, pa.string()), *SCHEMA])


@dataclass(frozen=True)
class EmbedJob:
    """What an embedding actor is made from.

    Attributes:
        towers: That see each image, which is decoded once for all of them.
        workspace: Which has the features.
        unreadable: Folder for the failures of this run that may pass.
        limits: The largest file and image.
        batch_size: Images of a forward pass; by default what fits.
        pixel_cache: Bound of the cache of pixels.
    """

    towers: tuple[Tower, ...]
    workspace: str
    unreadable: str
    limits: PoolSpec
    batch_size: int | None = None
    pixel_cache: int | None = None


def bad_images(features: Store) -> Store:
    """Return what is known of images that have no features, for reasons of their content."""
    return Store(join(features.folder, QUARANTINE), ID, features.facts)


class EmbedActor:
    """Towers that stay loaded and turn images into features."""

    def __init__(self, job: EmbedJob, device: str) -> None:
        self.job = job
        self.encoders = [Encoder(tower.load(device), side=tower.side) for tower in job.towers]
        first = self.encoders[0]
        if any(encoder.preprocess != first.preprocess for encoder in self.encoders):
            raise AssertionError("towers of one pass see the same pixels")
        self.batch_size = BatchSize.fitting(first, asked=job.batch_size)
        self.pixels = pixels_of_run(first.preprocess, job.limits, job.pixel_cache, device=device)

    def write_part(self, *shards: Shard) -> int:
        """Embed what is missing of some shards, and return how many images that were.

        The stages of a shard are the features and the bad images of each tower.
        """
        images = pa.concat_tables(shard.read_images([ID, "uri", "bytes"]) for shard in shards)
        missing = [_missing(images, shards, number) for number, _ in enumerate(self.encoders)]
        wanted = np.logical_or.reduce(missing)
        images = images.filter(pa.array(wanted)).combine_chunks()
        quarantined = Quarantined("embed")
        seen = self._encode_all(images, [rows[wanted] for rows in missing], quarantined)
        self._write(images, seen, _with_ids(quarantined, images))
        return int(images.num_rows)

    def _encode_all(
        self, images: pa.Table, missing: Sequence[np.ndarray], quarantined: Quarantined
    ) -> list["_Seen"]:
        """Return what each tower sees of the images that it misses, as far as they can be read."""
        seen = [
            _Seen(encoder, wanted) for encoder, wanted in zip(self.encoders, missing, strict=True)
        ]
        batch_size, count = self.batch_size.images, 0
        for numbers, pixels in batches(images, self.pixels, quarantined, batch_size=batch_size):
            count += len(numbers)
            for own in seen:
                own.see(np.asarray(numbers), pixels, self.batch_size)
        if count + len(quarantined.rows) != images.num_rows:
            raise AssertionError("rows in and rows out of embedding differ")
        return seen

    def _write(self, images: pa.Table, seen: Sequence["_Seen"], bad: pa.Table) -> None:
        """Add features and bad images to the stores; what may be read another time is not kept."""
        may_pass = pc.is_in(bad["reason"], pa.array(MAY_PASS))
        Store(self.job.unreadable, ID).add(bad.filter(may_pass))
        for tower, own in zip(self.job.towers, seen, strict=True):
            store = tower.features(self.job.workspace)
            bad_images(store).add(bad.filter(pc.invert(may_pass)))
            rows, vectors = own.features()
            columns = [images[ID].take(pa.array(rows)), fixed_size_list(vectors)]
            store.add(pa.table(columns, names=[ID, "embedding"]))


class _Seen:
    """What a tower sees, and of which rows it is asked.

    Features stay on the device until the last batch, so that nothing waits for a copy.
    """

    def __init__(self, encode: Encoder, wanted: np.ndarray) -> None:
        self._encode = encode
        self._wanted = wanted
        self._rows = [np.zeros(0, np.int64)]
        self._features: list[Tensor] = []

    def see(self, rows: np.ndarray, pixels: Tensor, batch_size: BatchSize) -> None:
        """Encode a batch, or what of it is wanted."""
        own = self._wanted[rows]
        if own.any():
            own_pixels = pixels if own.all() else pixels[torch.from_numpy(own)]
            self._features += batch_size.run(partial(encoded, self._encode), own_pixels)
            self._rows.append(rows[own])

    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows in their order, and their features."""
        rows = np.concatenate(self._rows)
        order = np.argsort(rows)
        if not self._features:
            return rows, np.zeros((0, 1), np.float32)
        return rows[order], torch.cat(self._features).cpu().numpy()[order]


def encoded(encode: Encoder, pixels: Tensor) -> tuple[Tensor]:
    """Return the features of a batch: the one forward pass of all that embeds."""
    return (encode(pixels),)


def _missing(images: pa.Table, shards: Sequence[Shard], tower: int) -> np.ndarray:
    """Return which images a tower has not seen."""
    ids = images[ID].combine_chunks()
    stored = dict.fromkeys(uri for shard in shards for uri in shard.stages[tower])
    rows: np.ndarray = pc.is_in(ids, absent_keys(ids, stored, ID)).to_numpy(zero_copy_only=False)
    return rows


def _with_ids(quarantined: Quarantined, images: pa.Table) -> pa.Table:
    """Return the quarantine with the ids of its images, which lie at different places."""
    table = quarantined.table()
    rows = pc.index_in(table["uri"], images["uri"].combine_chunks())
    return table.add_column(0, ID, images[ID].take(rows)).cast(BAD)
