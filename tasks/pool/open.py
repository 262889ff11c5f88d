"""Open images as a pool: identified by content, with duplicates marked and a quarantine."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.compute.calls import run_tasks
from tasks.images import quarantine
from tasks.images.listing import NoImages
from tasks.images.sources import Source
from tasks.pool import scan
from tasks.pool.catalog import Catalog, catalog, has_unreadable
from tasks.pool.classes import NoClassNames
from tasks.pool.true_labels import (
    COLUMN,
    FOLDERS,
    BadLabels,
    check_labels,
    list_sources,
    read_classes,
)
from tasks.progress import progress, say
from tasks.refs import PoolRef
from tasks.specs import InputError, PoolSpec, RuntimeSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import content_hash, exists, names_in, remove
from tasks.storage.layout import QUARANTINE, Folder, claim_workspace, in_workspace
from tasks.storage.manifest import (
    Manifest,
    Part,
    make_manifest,
    part_name,
    read_manifest,
    write_manifest,
)
from tasks.storage.stage import step
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join, redact


class TooManyBadImages(InputError):
    """More files are in quarantine than `--max-quarantined` allows."""


@step("pool", retries=2)
def open_pool(spec: PoolSpec, runtime: RuntimeSpec, *, for_training: bool = True) -> PoolRef:
    """Write the images of a run, without pixels, and the quarantine.

    Images are listed, read once in parallel for their content hash and their header, and
    compared: of equal images all but the first have `duplicate_of`. Test images come first in
    that order. A finished pool is found by its digest; an interrupted one continues with the
    missing parts.

    Args:
        spec: Images, test images, class names, labels for evaluation, limits.
        runtime: Workspace and cluster.
        for_training: Whether class names and images outside of the test split are required.

    Returns:
        A reference to the pool.

    Raises:
        InputError: anything in the input that has to be corrected.
    """
    started = time.monotonic()
    claim_workspace(runtime.workspace)
    sources = list_sources(spec)
    classes = _read_classes(spec, sources, required=for_training)
    check_labels(spec, sources, classes)
    scan_spec, pieces = _plan(spec, sources)
    digest = fingerprint(scan.digest_of(pieces, scan_spec), classes, _labels_digest(spec))
    folder = in_workspace(runtime.workspace, Folder.POOL, digest)
    if (manifest := read_manifest(folder)) is not None:
        say(f"Pool: {manifest.rows:,} images, listed before; nothing to do.")
        _check_enough(manifest.facts, spec, for_training=for_training)
        return _reference(folder, manifest, resumed=True)
    _say_skipped(sources)
    parts = _scan(pieces, scan_spec, runtime, spec)
    with catalog(map(read_table, parts)) as images:
        facts = _find_facts(images, spec, classes)
        assert pc.sum(pieces["rows"]).as_py() == facts["num_images"] + facts["num_quarantined"]  # noqa: S101
        _remove_unreadable(parts, facts["reasons"])
        _check_enough(facts, spec, for_training=for_training)
        manifest = _write(folder, digest, images, rows=spec.rows_per_shard)
    manifest = manifest.model_copy(update={"seconds": time.monotonic() - started, "facts": facts})
    write_manifest(folder, manifest)
    return _reference(folder, manifest, resumed=False)


def _read_classes(spec: PoolSpec, sources: Sequence[Source], *, required: bool) -> tuple[str, ...]:
    try:
        return read_classes(spec, sources)
    except NoClassNames:
        if required:
            raise
        return ()


def _plan(spec: PoolSpec, sources: Sequence[Source]) -> tuple[scan.ScanSpec, pa.Table]:
    roots = dict(zip(("pool", "test"), (source.root for source in sources), strict=False))
    scan_spec = scan.ScanSpec(
        roots=roots,
        rows_per_shard=spec.rows_per_shard,
        max_bytes=spec.max_bytes,
        max_pixels=spec.max_pixels,
        with_label=spec.labels == COLUMN,
    )
    return scan_spec, scan.cut(sources, spec.rows_per_shard)


def _labels_digest(spec: PoolSpec) -> str | None:
    """Return the source of labels for the pool's digest, or the hash of their file."""
    if spec.labels is None or spec.labels in (COLUMN, FOLDERS):
        return spec.labels
    return content_hash(spec.labels)


def _say_skipped(sources: Sequence[Source]) -> None:
    for source in sources:
        if source.num_skipped:
            say(f"{source.uri}: {source.num_skipped:,} links lead out of it; not followed.")


def _scan(
    pieces: pa.Table, scan_spec: scan.ScanSpec, runtime: RuntimeSpec, spec: PoolSpec
) -> list[str]:
    """Scan the shards without a part, and return the parts of all shards."""
    digest = scan.digest_of(pieces, scan_spec)
    folder = in_workspace(runtime.workspace, Folder.SCAN, digest)
    listing = join(folder, "listing.parquet")
    if not exists(listing):
        write_table(listing, pieces, {"digest": digest})
    jobs, counts = _jobs(pieces, scan_spec, listing, digest)
    existing = names_in(folder)
    missing = [i for i, job in enumerate(jobs) if job.target.rpartition("/")[2] not in existing]
    reasons: Counter[str] = Counter()
    with progress("Reading images", sum(counts[i] for i in missing)) as advance:
        items = [(jobs[i],) for i in missing]
        for item, reasons_of_shard in _run(items, runtime, pieces["uri"][0].as_py()):
            advance(counts[missing[item]])
            reasons.update(reasons_of_shard)
            if reasons.total() > spec.max_quarantined * sum(counts):  # the rest cannot help
                _remove_unreadable([job.target for job in jobs], reasons)
                _check_quarantine(reasons, sum(counts), spec.max_quarantined)
    return [job.target for job in jobs]


def _jobs(
    pieces: pa.Table, scan_spec: scan.ScanSpec, listing: str, digest: str
) -> tuple[list[scan.ScanJob], list[int]]:
    """Return the job of each shard, and its number of images."""
    folder = listing.rpartition("/")[0]
    jobs: list[scan.ScanJob] = []
    counts: list[int] = []
    ordinal = 0
    for index, span in enumerate(scan.spans(pieces, scan_spec.rows_per_shard)):
        target = join(folder, part_name(index, digest))
        rows = {"first": span.first, "rows": span.rows, "ordinal": ordinal}
        jobs.append(scan.ScanJob(listing=listing, target=target, spec=scan_spec, **rows))
        counts.append(span.num_images)
        ordinal += span.num_images
    return jobs, counts


def _run(
    items: Sequence[tuple[scan.ScanJob]], runtime: RuntimeSpec, uri: str
) -> Iterator[tuple[int, dict[str, int]]]:
    if any(location.startswith("memory://") for location in (uri, runtime.workspace)):
        # Other processes have other memory, without these files.
        yield from ((index, scan.scan_shard(*item)) for index, item in enumerate(items))
    elif items:
        yield from run_tasks(scan.scan_shard, items, runtime=runtime)


def _remove_unreadable(parts: Sequence[str], reasons: Mapping[str, int]) -> None:
    """Delete the parts of a scan with temporary failures, so that the next run reads them again."""
    if quarantine.UNREADABLE in reasons:
        for part in filter(exists, parts):
            if has_unreadable(read_table(part, ["reason"])):
                remove(part)


def _find_facts(images: Catalog, spec: PoolSpec, classes: Sequence[str]) -> dict[str, Any]:
    """Mark duplicates, set labels, and return the counts for the manifest."""
    images.find_duplicates()
    images.set_labels(spec.labels, classes)
    counts, reasons = images.counts(), images.reasons()
    split = "test" if counts["num_test"] else "pool"
    if spec.labels and not counts[f"num_{split}_labels"] and counts[f"num_{split}"]:
        msg = (
            f"--labels {redact(spec.labels)}: none of the {counts[f'num_{split}']:,} images that "
            "accuracy is measured on has a label; compare the names in it with those of the images"
        )
        raise BadLabels(msg)
    facts: dict[str, Any] = {**counts, "reasons": reasons, "num_quarantined": sum(reasons.values())}
    return {**facts, "classes": list(classes), "labeled": spec.labels is not None}


def _check_enough(facts: Mapping[str, Any], spec: PoolSpec, *, for_training: bool) -> None:
    """Refuse a pool with too many files in quarantine, or without images."""
    reasons: Mapping[str, int] = facts["reasons"]
    num_usable = facts["num_images"]
    _check_quarantine(reasons, num_usable + facts["num_quarantined"], spec.max_quarantined)
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


def _write(folder: str, digest: str, images: Catalog, *, rows: int) -> Manifest:
    """Write the images and the quarantine, and return the manifest of both."""
    manifest = _write_parts(folder, "images", digest, images.images(rows))
    _write_parts(folder, QUARANTINE, digest, images.quarantine(quarantine.SCHEMA, rows))
    parts = tuple(Part(name=f"images/{part.name}", rows=part.rows) for part in manifest.parts)
    return manifest.model_copy(update={"kind": Folder.POOL, "parts": parts})


def _write_parts(folder: str, kind: str, digest: str, tables: Iterator[pa.Table]) -> Manifest:
    """Write one table per part, at least one, and their manifest."""
    target = join(folder, kind)
    parts = []
    for index, table in enumerate(tables):
        name = part_name(index, digest)
        write_table(join(target, name), table, {"kind": kind, "digest": digest})
        parts.append(Part(name=name, rows=table.num_rows))
    manifest = make_manifest(kind, digest, parts)
    write_manifest(target, manifest)
    return manifest


def _reference(folder: str, manifest: Manifest, *, resumed: bool) -> PoolRef:
    names = ("classes", "labeled", "num_pool", "num_test", "num_duplicates", "num_quarantined")
    return PoolRef.model_validate(
        {
            "uri": folder,
            "digest": manifest.digest,
            "rows": manifest.rows,
            "seconds": manifest.seconds,
            "resumed": resumed,
            **{name: manifest.facts[name] for name in names},
        }
    )
