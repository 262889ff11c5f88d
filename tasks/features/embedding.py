"""Embed images with towers: what is missing is computed, and nothing else."""

import time
from collections.abc import Iterable, Iterator, Sequence

from tasks.compute.map_parts import map_parts
from tasks.features.actor import EmbedActor, EmbedJob
from tasks.features.coverage import covers, stored
from tasks.features.runs import embeddings_ref, find_run, run_folder, write_run
from tasks.features.towers import Tower
from tasks.pool.shards import ID, Shard
from tasks.progress import say
from tasks.refs import EmbeddingsRef, ImagesRef
from tasks.specs import CoftSpec, InputError
from tasks.storage.layout import QUARANTINE
from tasks.storage.store import Store
from tasks.storage.uris import join

FAILURES = "unreadable"  # folder of a run: what may be read another time


def embed(
    images: ImagesRef, towers: Sequence[Tower], spec: CoftSpec, *, label: str
) -> tuple[EmbeddingsRef, ...]:
    """Return the features of images for each tower; an image is decoded once for all towers.

    Features that are there, for these or for any other images, are not computed again. An image
    that cannot be used for reasons of its content is not tried again; one whose reading failed is.

    Args:
        images: The images.
        towers: Of equal preprocessing.
        spec: Limits of the images, and where to run.
        label: What the person reads.

    Raises:
        InputError: no image could be decoded.
    """
    started, workspace = time.monotonic(), spec.runtime.workspace
    found = {tower.digest: find_run(tower, images, workspace) for tower in towers}
    new = {tower.digest: tower for tower in towers if found[tower.digest] is None}
    if new:
        failures = _embed_missing(images, list(new.values()), spec, label)
        seconds = (time.monotonic() - started) / len(new)
        for digest, tower in new.items():
            found[digest] = write_run(tower, images, workspace, failures, seconds=seconds)
    else:
        say(f"{label}: finished before")
    refs = tuple(
        embeddings_ref(tower, images, workspace, manifest, resumed=tower.digest not in new)
        for tower in towers
        if (manifest := found[tower.digest]) is not None
    )
    for ref in refs:
        _check_any(ref, images)
    return refs


def _check_any(ref: EmbeddingsRef, images: ImagesRef) -> None:
    if not ref.rows:
        raise InputError(
            f"None of the {images.num_pool + images.num_test:,} images could be decoded; "
            f"{join(ref.run, QUARANTINE)} says why."
        )


def _embed_missing(
    images: ImagesRef, towers: Sequence[Tower], spec: CoftSpec, label: str
) -> list[str]:
    """Let actors embed what one of the towers at least has not seen; return what failed."""
    workspace = spec.runtime.workspace
    seen = [stored(images, tower, workspace) for tower in towers]
    missing = [
        max(cover.missing for cover in own)
        for own in zip(*(covers(parts) for parts in seen), strict=True)
    ]
    total, all_images = sum(missing), images.num_pool + images.num_test
    if 0 < total < all_images:
        say(f"{label}: {all_images - total:,} images were seen before, {total:,} are new")
    failures = Store(join(run_folder(towers[0], images, workspace), FAILURES), ID)
    if total:
        runtime = spec.runtime
        job = EmbedJob(
            towers=tuple(towers),
            workspace=workspace,
            unreadable=failures.folder,
            limits=spec.pool,
            batch_size=runtime.batch_size,
            pixel_cache=runtime.pixel_cache,
        )
        merged = (_merged(own) for own in zip(*seen, strict=True))
        items = _grouped(merged, missing, spec.pool.rows_per_shard)
        map_parts(EmbedActor, job, items, spec.runtime, label=label, total=total)
    return failures.uris()


def _merged(shards: Sequence[Shard]) -> Shard:
    """Return a shard with one stage for each tower: all that it knows of the images."""
    stages = tuple(tuple(uri for stage in shard.stages for uri in stage) for shard in shards)
    return Shard(shards[0].images, stages)


def _grouped(
    shards: Iterable[Shard], missing: Sequence[int], most: int
) -> Iterator[tuple[Shard, ...]]:
    """Group neighbouring shards of which images are missing, up to so many missing images."""
    group, count = list[Shard](), 0
    for shard, number in zip(shards, missing, strict=True):
        if group and number and count + number > most:
            yield tuple(group)
            group, count = [], 0
        if number:
            group.append(shard)
            count += number
    if group:
        yield tuple(group)
