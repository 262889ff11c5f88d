"""What a run says of its features: which parts of the store they are, and why an image has none."""

import hashlib
from collections.abc import Sequence

import pyarrow as pa

from tasks.features.actor import BAD
from tasks.features.coverage import covers, stored
from tasks.features.towers import Tower
from tasks.images.quarantine import UNREADABLE
from tasks.pool.readers import value_of
from tasks.pool.shards import ID, Shard
from tasks.refs import EmbeddingsRef, ImagesRef
from tasks.storage.digests import fingerprint
from tasks.storage.layout import QUARANTINE, RUNS, Folder
from tasks.storage.manifest import (
    Manifest,
    Part,
    make_manifest,
    part_name,
    read_manifest,
    write_manifest,
)
from tasks.storage.store import absent_keys, read_keys
from tasks.storage.tables import write_table
from tasks.storage.uris import join


def run_folder(tower: Tower, images: ImagesRef, workspace: str) -> str:
    """Return where it is said which features some images have."""
    return join(tower.features(workspace).folder, RUNS, images.digest)


def find_run(tower: Tower, images: ImagesRef, workspace: str) -> Manifest | None:
    """Return which features some images have; None if another attempt may bring more of them."""
    manifest = read_manifest(run_folder(tower, images, workspace))
    return manifest if manifest is not None and not manifest.facts["missing"] else None


def write_run(
    tower: Tower, images: ImagesRef, workspace: str, failures: Sequence[str], *, seconds: float
) -> Manifest:
    """Write which parts of the store have the features of some images, and why some have none.

    Args:
        tower: Whose features.
        images: The images.
        workspace: Which has the features.
        failures: Parts (schema `BAD`) about images that could not be read in this run.
        seconds: How long embedding took.
    """
    folder = run_folder(tower, images, workspace)
    parts = stored(images, tower, workspace)
    used, missing, bad = dict[str, int](), 0, [BAD.empty_table()]
    for shard, cover in zip(parts, covers(parts), strict=True):
        used |= cover.used
        missing += cover.missing
        if cover.absent:
            bad.append(_why_absent(shard, failures))
    quarantined = pa.concat_tables(bad)
    _write_quarantine(join(folder, QUARANTINE), quarantined)
    names = [Part(name=name, rows=rows) for name, rows in sorted(used.items())]
    facts = {"images": images.digest, "quarantined": quarantined.num_rows, "missing": missing}
    update = {
        "rows": images.num_pool + images.num_test - quarantined.num_rows,
        "seconds": seconds,
        "facts": {**facts, "absent": _digest(quarantined)},
    }
    manifest = make_manifest(Folder.EMBEDDINGS, images.digest, names).model_copy(update=update)
    write_manifest(folder, manifest)
    return manifest


def embeddings_ref(
    tower: Tower, images: ImagesRef, workspace: str, manifest: Manifest, *, resumed: bool
) -> EmbeddingsRef:
    """Return a reference to what `write_run` wrote."""
    made_from = (tower.digest, images.digest, manifest.facts["absent"])
    return EmbeddingsRef(
        uri=tower.features(workspace).folder,
        run=run_folder(tower, images, workspace),
        digest=fingerprint(Folder.EMBEDDINGS, *made_from),
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        dim=tower.dim,
        num_quarantined=int(str(manifest.facts["quarantined"])),
        model=tower.name,
    )


def _digest(quarantined: pa.Table) -> str:
    """Return what tells which images have no features; nothing if all have."""
    ids = "".join(f"{image}\n" for image in quarantined[ID].to_pylist())
    return hashlib.sha256(ids.encode()).hexdigest()[:16] if ids else ""


def _why_absent(shard: Shard, failures: Sequence[str]) -> pa.Table:
    """Return the images of a shard without features (schema `BAD`): where they are, and why."""
    images = shard.read_images([ID, "uri", "bytes"])
    seen, bad = shard.stages
    ids = absent_keys(images[ID].combine_chunks(), seen, ID)
    said = [*bad, *failures]
    known = read_keys(ids, said, ID, BAD.names) if said else BAD.empty_table()
    columns = {
        ID: ids,
        "uri": value_of(images, ids, "uri"),
        "stage": pa.array(["embed"] * len(ids), pa.string()),
        "reason": value_of(known, ids, "reason").fill_null(UNREADABLE),
        "detail": value_of(known, ids, "detail"),
        "bytes": value_of(images, ids, "bytes"),
    }
    return pa.table(columns, schema=BAD)


def _write_quarantine(folder: str, quarantined: pa.Table) -> None:
    name = part_name(0, _digest(quarantined) or "none")
    write_table(join(folder, name), quarantined)
    part = Part(name=name, rows=quarantined.num_rows)
    write_manifest(folder, make_manifest(QUARANTINE, "", [part]))
