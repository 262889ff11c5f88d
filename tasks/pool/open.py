"""Open the images of a run: identified by content, with duplicates marked and a quarantine."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from tasks.compute.calls import run_tasks
from tasks.images import quarantine
from tasks.images.listing import NoImages
from tasks.pool.catalog import Catalog, catalog
from tasks.pool.entries import digest_of, iter_entries
from tasks.pool.listed import hand_on, take_understood
from tasks.pool.scan import WORK, ScanJob, Scanned, listing_of, scan_images
from tasks.pool.understood import Understood
from tasks.pool.written import Content, cut, mark_duplicates
from tasks.progress import progress, say
from tasks.refs import ImagesRef
from tasks.specs import InputError, PoolSpec, RuntimeSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import remove
from tasks.storage.layout import QUARANTINE, SPLIT_FOLDERS, Folder, claim_workspace, in_workspace
from tasks.storage.manifest import (
    Manifest,
    Part,
    make_manifest,
    part_name,
    read_manifest,
    write_manifest,
)
from tasks.storage.ranges import span_of_keys
from tasks.storage.stage import step
from tasks.storage.tables import append_tables, write_table
from tasks.storage.uris import join, redact


class TooManyBadImages(InputError):
    """More files are in quarantine than `--max-quarantined` allows."""


@step("images", retries=2)
def open_images(spec: PoolSpec, runtime: RuntimeSpec, *, for_training: bool = True) -> ImagesRef:
    """Write the images of a run, without pixels, and the quarantine.

    Files are listed. What is new to the workspace is read once, in parallel, for its content hash
    and its header. Of equal images all but one have `duplicate_of`: a test image comes first, then
    the one that is listed first. Files that are listed as before are found by the digest of the
    listing; after an interruption only what is still new is read. Failures that may pass are tried
    again by the next run.

    Args:
        spec: Images, test images, limits; class names and labels are only checked.
        runtime: Workspace and cluster.
        for_training: Whether class names and images outside of the test split are required.

    Returns:
        A reference to the images.

    Raises:
        InputError: anything in the input that has to be corrected.
    """
    started = time.monotonic()
    claim_workspace(runtime.workspace)
    found = take_understood(spec, for_training=for_training)
    sources, splits = found.sources, found.split_folders
    key = digest_of(sources, spec, is_split=bool(splits))
    folder = in_workspace(runtime.workspace, Folder.POOL, key)
    if (manifest := read_manifest(folder)) is not None:
        say(f"Images: {manifest.rows:,}, listed before; nothing to do.")
        _check_enough(manifest.facts, spec, for_training=for_training)
        _hand_on(folder, found)
        return _reference(folder, manifest, resumed=True)
    with catalog(listing_of(in_workspace(runtime.workspace, Folder.LISTING))) as images:
        for table in iter_entries(sources, is_split=bool(splits)):
            images.add_entries(table)
        _read_new(images, key, runtime, spec)
        reasons = images.reasons()
        _check_quarantine(reasons, images.num_entries(), spec.max_quarantined)
        if reasons.keys() & quarantine.MAY_PASS:  # the next run tries again, and does not find it
            folder = f"{folder}-{fingerprint(started)[:8]}"
        manifest = _write(folder, key, images, rows=spec.rows_per_shard)
    facts = {"roots": [source.root for source in sources], SPLIT_FOLDERS: splits}
    manifest = manifest.model_copy(update={"facts": {**manifest.facts, **facts}})
    assert images_and_bad(manifest.facts) == sum(source.num_images for source in sources)  # noqa: S101
    _check_enough(manifest.facts, spec, for_training=for_training)
    manifest = manifest.model_copy(update={"seconds": time.monotonic() - started})
    write_manifest(folder, manifest)
    _hand_on(folder, found)
    return _reference(folder, manifest, resumed=False)


def images_and_bad(facts: Mapping[str, Any]) -> int:
    """Return how many files a listing has, usable or not."""
    return int(facts["num_images"]) + int(facts["num_quarantined"])


def _hand_on(folder: str, found: Understood) -> None:
    """Leave listing and classes to the task, which a run without classes does not have."""
    if found.classes.names:
        hand_on(folder, found)


def _read_new(images: Catalog, key: str, runtime: RuntimeSpec, spec: PoolSpec) -> None:
    """Read what is not in the listing, and join what is there by then."""
    folder = in_workspace(runtime.workspace, Folder.LISTING)
    work = join(folder, f"new-{key}-{uuid4().hex[:8]}.parquet")  # another run may do the same
    count = append_tables(work, WORK, images.new_images(spec.max_bytes))
    total, reasons = images.num_entries(), Counter[str]()
    if 0 < count < total:
        say(f"Images: {total:,} listed, {count:,} of them new")
    jobs = [
        ScanJob(work, first, min(spec.rows_per_shard, count - first), folder, spec.max_bytes)
        for first in range(0, count, spec.rows_per_shard)
    ]
    if jobs:
        with progress("Reading images", count) as advance:
            for number, scanned in _run(jobs, runtime, spec.images):
                advance(jobs[number].rows)
                images.add_not_kept(scanned.not_kept)
                reasons.update(scanned.reasons)
                _check_quarantine(reasons, total, spec.max_quarantined)  # the rest cannot help
    remove(work)
    images.join_listing(max_bytes=spec.max_bytes, max_pixels=spec.max_pixels)


def _run(jobs: Sequence[ScanJob], runtime: RuntimeSpec, uri: str) -> Iterator[tuple[int, Scanned]]:
    if any(location.startswith("memory://") for location in (uri, runtime.workspace)):
        # Other processes have other memory, without these files.
        yield from ((number, scan_images(job)) for number, job in enumerate(jobs))
    else:
        yield from run_tasks(scan_images, [(job,) for job in jobs], runtime=runtime)


def _check_enough(facts: Mapping[str, Any], spec: PoolSpec, *, for_training: bool) -> None:
    """Refuse images with too many files in quarantine, or none at all."""
    reasons: Mapping[str, int] = facts["reasons"]
    num_usable = facts["num_images"]
    _check_quarantine(reasons, images_and_bad(facts), spec.max_quarantined)
    if not (facts["num_pool"] if for_training else num_usable):
        cause = quarantine.most_frequent(reasons) or f"all {num_usable:,} are test images"
        msg = f"{redact(spec.images)}: expected images to adapt to, none is left ({cause})"
        raise NoImages(f"{msg}; check the files")


def _check_quarantine(reasons: Mapping[str, int], num_files: int, max_share: float) -> None:
    if (num_bad := sum(reasons.values())) > max_share * num_files:
        msg = (
            f"expected at most {max_share:.0%} bad images, got {num_bad:,} of {num_files:,} "
            f"({quarantine.most_frequent(reasons)}); check the files, or raise --max-quarantined"
        )
        raise TooManyBadImages(msg)


def _write(folder: str, key: str, images: Catalog, *, rows: int) -> Manifest:
    """Write the images and the quarantine, and return the manifest of both, without its time."""
    content, parts, facts = Content(), list[Part](), {"kind": "images", "digest": key}
    for table in cut(mark_duplicates(images.images()), rows):
        content.add(table)
        name = f"images/{span_of_keys(table['image_id']).file_name(content.digest)}"
        write_table(join(folder, name), table, facts)
        parts.append(Part(name=name, rows=table.num_rows))
    _write_quarantine(join(folder, QUARANTINE), key, images)
    reasons, splits = images.reasons(), content.splits
    counted = {
        "content": content.digest,
        "num_images": content.num_rows,
        "num_pool": splits["pool"],
        "num_test": splits["test"],
        "num_duplicates": content.num_rows - splits.total(),
        "num_quarantined": sum(reasons.values()),
        "reasons": reasons,
    }
    return make_manifest(Folder.POOL, key, parts).model_copy(update={"facts": counted})


def _write_quarantine(folder: str, key: str, images: Catalog) -> None:
    """Write the quarantine and its manifest."""
    parts = []
    tables = images.quarantine(quarantine.SCHEMA)
    for index, table in enumerate(tables):
        name = part_name(index, key)
        write_table(join(folder, name), table, {"kind": QUARANTINE, "digest": key})
        parts.append(Part(name=name, rows=table.num_rows))
    write_manifest(folder, make_manifest(QUARANTINE, key, parts))


def _reference(folder: str, manifest: Manifest, *, resumed: bool) -> ImagesRef:
    names = ("num_pool", "num_test", "num_duplicates", "num_quarantined")
    return ImagesRef.model_validate(
        {
            "uri": folder,
            "digest": manifest.facts["content"],
            "rows": manifest.rows,
            "seconds": manifest.seconds,
            "resumed": resumed,
            **{name: manifest.facts[name] for name in names},
        }
    )
