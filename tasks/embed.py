"""Embed the pool: one Prefect task for the stage, Ray actors that hold the tower for its shards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from clipcore.inference import BatchSize, Encoder
from tasks.compute.map_parts import map_parts
from tasks.images.pixels import batches, pixels_of_run
from tasks.images.quarantine import Quarantined
from tasks.pool.readers import read_images
from tasks.refs import BackboneRef, EmbeddingsRef, PoolRef, Ref
from tasks.specs import CoftSpec, InputError, PoolSpec
from tasks.storage.columns import fixed_size_list
from tasks.storage.digests import fingerprint
from tasks.storage.layout import QUARANTINE, Folder, in_workspace
from tasks.storage.stage import once, step
from tasks.storage.tables import write_table
from tasks.storage.uris import join
from tasks.weights import load_visual


@dataclass(frozen=True)
class EmbedJob:
    """The inputs of an embedding stage, for its actors."""

    backbone: BackboneRef
    weights: tuple[str, ...]
    folder: str
    digest: str
    limits: PoolSpec
    batch_size: int | None = None
    pixel_cache: int | None = None


class EmbedActor:
    """A visual tower that stays loaded and turns shards of the pool into shards of embeddings."""

    def __init__(self, job: EmbedJob, device: str) -> None:
        self.job = job
        self.encode = Encoder(load_visual(job.backbone.name, job.weights, device=device))
        self.batch_size = BatchSize.fitting(self.encode, asked=job.batch_size)
        self.pixels = pixels_of_run(
            self.encode.preprocess, job.limits, job.pixel_cache, device=device
        )

    def write_part(self, images_uri: str, name: str) -> int:
        """Embed one part of the pool, and return how many images it has.

        The quarantine is written first, so that the embeddings' existence proves both.
        """
        images = read_images(images_uri, ["image_id", "uri", "bytes"])
        quarantined = Quarantined("embed")
        rows, features = self._encode(images, quarantined)
        ids = images["image_id"].take(pa.array(rows)).combine_chunks()
        vectors = fixed_size_list(features)
        if len(ids) + len(quarantined.rows) != images.num_rows:
            raise AssertionError(f"{images_uri}: rows in and rows out of embedding differ")
        self._write(name, pa.table({"image_id": ids, "embedding": vectors}), quarantined)
        return int(images.num_rows)

    def _write(self, name: str, table: pa.Table, quarantined: Quarantined) -> None:
        backbone = self.job.backbone
        facts = {
            "digest": self.job.digest,
            "backbone": backbone.name,
            "weights_sha256": backbone.weights_sha256,
            "quick_gelu": str(backbone.quick_gelu),
            "preprocess_hash": backbone.preprocess_hash,
            "normalized": "True",
        }
        if quarantined.rows:
            bad = join(self.job.folder, QUARANTINE, name)
            write_table(bad, quarantined.table(), facts)
        write_table(join(self.job.folder, name), table, facts)

    def _encode(self, images: pa.Table, quarantined: Quarantined) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the images that could be read, in order, and their features.

        Features stay on the device until the last batch, so that nothing waits for a copy.
        """
        rows: list[int] = []
        found = [torch.zeros(0, self.job.backbone.embed_dim, device=self.encode.device)]
        batch_size = self.batch_size.images
        for numbers, pixels in batches(images, self.pixels, quarantined, batch_size=batch_size):
            rows += numbers
            found += self.batch_size.run(lambda x: (self.encode(x),), pixels)
        order = np.argsort(rows)
        return np.array(rows, np.int64)[order], torch.cat(found).cpu().numpy()[order]


@step("embed pool")
def embed_pool(
    pool: PoolRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    *,
    learned: Sequence[Ref] = (),
    name: str | None = None,
) -> EmbeddingsRef:
    """Write the image features of every shard of the pool.

    A shard that exists is finished; a retry or a second run computes only what is missing.

    Args:
        pool: The images.
        backbone: Whose visual tower it is.
        spec: Limits of the images, and where to run.
        learned: Folders of weights that go on the tower, one after the other.
        name: What to call that tower.

    Raises:
        InputError: no image of the pool could be decoded.
    """
    limits, runtime = spec.pool, spec.runtime
    who = name or backbone.name
    digest = fingerprint(
        Folder.EMBEDDINGS,
        pool.digest,
        backbone,
        [ref.digest for ref in learned],
        limits.max_pixels,
        limits.max_bytes,
    )
    folder = in_workspace(runtime.workspace, Folder.EMBEDDINGS, digest)
    weights = tuple(ref.uri for ref in learned)
    job = EmbedJob(
        backbone, weights, folder, digest, limits, runtime.batch_size, runtime.pixel_cache
    )
    manifest, resumed = once(
        folder,
        kind=Folder.EMBEDDINGS,
        digest=digest,
        label=f"Embed with {who}",
        compute=lambda: map_parts(EmbedActor, job, pool, runtime, label=f"Embed with {who}"),
    )
    if manifest.rows == 0:
        raise InputError(
            f"None of the {pool.rows:,} images could be decoded; {folder}/{QUARANTINE} says why."
        )
    return EmbeddingsRef(
        uri=folder,
        digest=digest,
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        dim=backbone.embed_dim,
        num_quarantined=int(str(manifest.facts["quarantined"])),
        model=who,
    )
