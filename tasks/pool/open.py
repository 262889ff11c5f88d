"""Open images as a pool: identified by content, duplicates marked, bad files in quarantine."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.compute.cluster import run_tasks
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
    """More of the images are bad than the person allows, so something else is wrong."""


@step("pool", retries=2)
def open_pool(spec: PoolSpec, runtime: RuntimeSpec, *, for_training: bool = True) -> PoolRef:
    """Write the images of a run and the quarantine, without pixels, and return where they are.

    Images are listed, read once in parallel for their content hash and their header, and
    compared: of equal images all but the first carry `duplicate_of`. Test images come first in
    that order. Idempotent: a finished pool is found by its digest; an interrupted one goes on
    with the parts that are missing.

    Args:
        spec: Images, test images, class names, labels for evaluation, limits.
        runtime: Workspace and cluster.
        for_training: Whether class names, and images outside of the test split, must be there.

    Raises:
        InputError: anything in the input that a person has to correct.
    """
    started = time.monotonic()
    claim_workspace(runtime.workspace)
    sources = list_sources(spec)
    classes = _classes(spec, sources, needed=for_training)
    check_labels(spec, sources, classes)
    scanned, pieces = _plan(spec, sources)
    digest = fingerprint(scan.digest_of(pieces, scanned), classes, _labels_key(spec))
    folder = in_workspace(runtime.workspace, Folder.POOL, digest)
    if (manifest := read_manifest(folder)) is not None:
        say(f"Pool: {manifest.rows:,} images, listed before; nothing to do.")
        _refuse(manifest.facts, spec, for_training=for_training)
        return _refer(folder, manifest, resumed=True)
    _say_skipped(sources)
    parts = _scan(pieces, scanned, runtime, spec)
    with catalog(map(read_table, parts)) as images:
        facts = _judge(images, spec, classes)
        assert pc.sum(pieces["rows"]).as_py() == facts["num_images"] + facts["num_quarantined"]  # noqa: S101
        _forget_unreadable(parts, facts["reasons"])
        _refuse(facts, spec, for_training=for_training)
        manifest = _write(folder, digest, images, rows=spec.rows_per_shard)
    manifest = manifest.model_copy(update={"seconds": time.monotonic() - started, "facts": facts})
    write_manifest(folder, manifest)
    return _refer(folder, manifest, resumed=False)


def _classes(spec: PoolSpec, sources: Sequence[Source], *, needed: bool) -> tuple[str, ...]:
    try:
        return read_classes(spec, sources)
    except NoClassNames:
        if needed:
            raise
        return ()


def _plan(spec: PoolSpec, sources: Sequence[Source]) -> tuple[scan.ScanSpec, pa.Table]:
    roots = dict(zip(("pool", "test"), (source.root for source in sources), strict=False))
    scanned = scan.ScanSpec(
        roots=roots,
        rows_per_shard=spec.rows_per_shard,
        max_bytes=spec.max_bytes,
        max_pixels=spec.max_pixels,
        with_label=spec.labels == COLUMN,
    )
    return scanned, scan.cut(sources, spec.rows_per_shard)


def _labels_key(spec: PoolSpec) -> str | None:
    """Return what labels depend on: the way they are found, or the content of their file."""
    if spec.labels is None or spec.labels in (COLUMN, FOLDERS):
        return spec.labels
    return content_hash(spec.labels)


def _say_skipped(sources: Sequence[Source]) -> None:
    for source in sources:
        if source.num_skipped:
            say(f"{source.uri}: {source.num_skipped:,} links lead out of it; not followed.")


def _scan(
    pieces: pa.Table, scanned: scan.ScanSpec, runtime: RuntimeSpec, spec: PoolSpec
) -> list[str]:
    """Scan the shards whose part is not there yet, and return all parts."""
    digest = scan.digest_of(pieces, scanned)
    folder = in_workspace(runtime.workspace, Folder.SCAN, digest)
    listing = join(folder, "listing.parquet")
    if not exists(listing):
        write_table(listing, pieces, {"digest": digest})
    jobs, counts = _jobs(pieces, scanned, listing, digest)
    done = names_in(folder)
    missing = [i for i, job in enumerate(jobs) if job.target.rpartition("/")[2] not in done]
    bad: Counter[str] = Counter()
    with progress("Reading images", sum(counts[i] for i in missing)) as advance:
        items = [(jobs[i],) for i in missing]
        for place, reasons in _run(items, runtime, pieces["uri"][0].as_py()):
            advance(counts[missing[place]])
            bad.update(reasons)
            if bad.total() > spec.max_quarantined * sum(counts):  # it cannot get better
                _forget_unreadable([job.target for job in jobs], bad)
                _refuse_bad(bad, sum(counts), spec.max_quarantined)
    return [job.target for job in jobs]


def _jobs(
    pieces: pa.Table, scanned: scan.ScanSpec, listing: str, digest: str
) -> tuple[list[scan.ScanJob], list[int]]:
    """Return the jobs of all shards, and how many images each has."""
    folder = listing.rpartition("/")[0]
    jobs: list[scan.ScanJob] = []
    counts: list[int] = []
    ordinal = 0
    for index, span in enumerate(scan.spans(pieces, scanned.rows_per_shard)):
        target = join(folder, part_name(index, digest))
        place = {"first": span.first, "rows": span.rows, "ordinal": ordinal}
        jobs.append(scan.ScanJob(listing=listing, target=target, spec=scanned, **place))
        counts.append(span.num_images)
        ordinal += span.num_images
    return jobs, counts


def _run(
    items: Sequence[tuple[scan.ScanJob]], runtime: RuntimeSpec, uri: str
) -> Iterator[tuple[int, dict[str, int]]]:
    if any(place.startswith("memory://") for place in (uri, runtime.workspace)):
        # Another process has another memory, and would find nothing.
        yield from ((place, scan.scan_shard(*item)) for place, item in enumerate(items))
    elif items:
        yield from run_tasks(scan.scan_shard, items, runtime=runtime)


def _forget_unreadable(parts: Sequence[str], reasons: Mapping[str, int]) -> None:
    """Delete scan parts with failures that may pass, so that the next pool reads those again."""
    if quarantine.UNREADABLE in reasons:
        for part in filter(exists, parts):
            if has_unreadable(read_table(part, ["reason"])):
                remove(part)


def _judge(images: Catalog, spec: PoolSpec, classes: Sequence[str]) -> dict[str, Any]:
    """Mark duplicates, set labels, and return the facts of the pool."""
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


def _refuse(facts: Mapping[str, Any], spec: PoolSpec, *, for_training: bool) -> None:
    """Raise when too many images are bad, or none is left."""
    reasons: Mapping[str, int] = facts["reasons"]
    num_good = facts["num_images"]
    _refuse_bad(reasons, num_good + facts["num_quarantined"], spec.max_quarantined)
    if not (facts["num_pool"] if for_training else num_good):
        told = quarantine.most_frequent(reasons) or f"all {num_good:,} are test images"
        msg = f"{redact(spec.images)}: expected images to adapt to, none is left ({told})"
        raise NoImages(f"{msg}; check the files")


def _refuse_bad(reasons: Mapping[str, int], num_all: int, most: float) -> None:
    if (num_bad := sum(reasons.values())) > most * num_all:
        msg = (
            f"expected at most {most:.0%} bad images, got {num_bad:,} of {num_all:,} "
            f"({quarantine.most_frequent(reasons)}); check the files, or raise --max-quarantined"
        )
        raise TooManyBadImages(msg)


def _write(folder: str, digest: str, images: Catalog, *, rows: int) -> Manifest:
    """Write the images and the quarantine, and return the manifest of both."""
    good = _write_parts(folder, "images", digest, images.images(rows))
    _write_parts(folder, QUARANTINE, digest, images.quarantine(quarantine.SCHEMA, rows))
    parts = tuple(Part(name=f"images/{part.name}", rows=part.rows) for part in good.parts)
    return good.model_copy(update={"kind": "pool", "parts": parts})


def _write_parts(folder: str, kind: str, digest: str, tables: Iterator[pa.Table]) -> Manifest:
    """Write one table per part, at least one, and their manifest."""
    inside = join(folder, kind)
    parts = []
    for index, table in enumerate(tables):
        name = part_name(index, digest)
        write_table(join(inside, name), table, {"kind": kind, "digest": digest})
        parts.append(Part(name=name, rows=table.num_rows))
    manifest = make_manifest(kind, digest, parts)
    write_manifest(inside, manifest)
    return manifest


def _refer(folder: str, manifest: Manifest, *, resumed: bool) -> PoolRef:
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
