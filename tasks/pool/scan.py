"""Read every image once: content hash and size from the header, or the reason for quarantine.

A scan depends on the images and the limits only, never on classes or labels, so another class
list reads no image again. Only `tasks.pool` reads its parts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import Field

from clipcore.images import BadImage, check_header
from tasks.images.parquet import image_column, read_columns, read_schema, resolve
from tasks.images.quarantine import explain
from tasks.images.sources import LISTING, Source, read_images
from tasks.pool.true_labels import read_labels, relative
from tasks.specs import Spec
from tasks.storage.digests import fingerprint
from tasks.storage.tables import write_table

PART = pa.schema(
    [
        ("ordinal", pa.int64()),
        ("uri", pa.string()),
        ("name", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("bytes", pa.int64()),
        ("image_id", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
PIECES = LISTING.append(pa.field("first", pa.int64())).append(pa.field("split", pa.string()))


class ScanSpec(Spec):
    """Everything that a scan depends on, besides the files."""

    roots: dict[str, str]
    rows_per_shard: int
    max_bytes: int
    max_pixels: int
    with_label: bool


class Span(NamedTuple):
    """Rows `first` to `first + rows` of the pieces, and the images in them."""

    first: int
    rows: int
    num_images: int


class ScanJob(Spec):
    """A shard: pieces `first` to `first + rows` of the file `listing`, written to `target`."""

    listing: str
    target: str
    first: int
    rows: int
    ordinal: int = Field(description="Number of its first image among all images.")
    spec: ScanSpec


class Image(NamedTuple):
    """An image before it is read; `size` in bytes is None if only reading tells it."""

    uri: str
    name: str
    split: str
    label: str | None
    size: int | None


def cut(sources: Sequence[Source], rows_per_shard: int) -> pa.Table:
    """Return the files of all sources as pieces of at most `rows_per_shard` images.

    The first source is the pool, the second the test images. A piece of a Parquet file begins at
    row `first`; that is null for an image file.
    """
    tables = [pa.Table.from_batches([], PIECES)]
    for source, split in zip(sources, ("pool", "test"), strict=False):
        listing = source.listing
        if source.kind == "tables":
            listing = _cut_tables(listing, rows_per_shard)
        else:
            listing = listing.append_column("first", pa.nulls(listing.num_rows, pa.int64()))
        splits = pa.array([split], pa.string()).take(pa.array([0] * listing.num_rows, pa.int64()))
        tables.append(listing.append_column("split", splits).cast(PIECES))
    return pa.concat_tables(tables)


def spans(pieces: pa.Table, rows_per_shard: int) -> list[Span]:
    """Group neighbouring pieces into shards of at most `rows_per_shard` images."""
    shards: list[Span] = []
    first = num_images = 0
    for index, count in enumerate(pieces["rows"].to_pylist()):
        if num_images and num_images + count > rows_per_shard:
            shards.append(Span(first, index - first, num_images))
            first, num_images = index, 0
        num_images += count
    if num_images:
        shards.append(Span(first, pieces.num_rows - first, num_images))
    return shards


def digest_of(pieces: pa.Table, spec: ScanSpec) -> str:
    """Digest the names, sizes and versions of all files, and the limits of the scan."""
    content = hashlib.sha256()
    for batch in pieces.combine_chunks().to_batches(max_chunksize=65536):
        content.update(fingerprint(batch.to_pydict()).encode())
    return fingerprint(content.hexdigest(), spec)


def scan_shard(job: ScanJob) -> dict[str, int]:
    """Scan a shard, write its part, and return the number of quarantined files by reason."""
    spec, rows = job.spec, list[dict[str, Any]]()
    images = list(_images_of_job(job))
    for index, data in read_images([image.uri for image in images], max_bytes=spec.max_bytes):
        facts = {"bytes": images[index].size, **_inspect(data, spec.max_pixels)}
        rows.append({**images[index]._asdict(), **facts, "ordinal": job.ordinal + index})
    rows.sort(key=lambda row: row["ordinal"])
    write_table(job.target, pa.Table.from_pylist(rows, PART), {"kind": "scan"})
    return dict(Counter(row["reason"] for row in rows if row.get("reason")))


def _cut_tables(listing: pa.Table, rows_per_shard: int) -> pa.Table:
    pieces = [
        {**file, "first": first, "rows": min(rows_per_shard, file["rows"] - first)}
        for file in listing.to_pylist()
        for first in range(0, file["rows"], rows_per_shard)
    ]
    return pa.Table.from_pylist(pieces, PIECES.remove(PIECES.get_field_index("split")))


def _images_of_job(job: ScanJob) -> Iterator[Image]:
    pieces = read_columns(job.listing, PIECES.names, first=job.first, rows=job.rows)
    for piece in pieces.to_pylist():
        uri, split, root = piece["uri"], piece["split"], job.spec.roots[piece["split"]]
        if piece["first"] is None:
            yield Image(uri, relative(uri, root), split, None, piece["size"])
        else:
            yield from _images_of_table(piece, root, with_label=job.spec.with_label)


def _images_of_table(piece: dict[str, Any], root: str, *, with_label: bool) -> Iterator[Image]:
    uri, first, rows = piece["uri"], piece["first"], piece["rows"]
    schema = read_schema(uri)
    if image_column(uri, schema) == "uri":
        names = [name or "" for name in _texts(uri, "uri", first, rows)]
        uris = [resolve(name, uri) for name in names]
    else:
        uris = [f"{uri}#{row}" for row in range(first, first + rows)]
        names = [relative(row, root) for row in uris]
    splits: Sequence[str | None] = [piece["split"]] * rows
    if "split" in schema.names and piece["split"] == "pool":
        splits = _texts(uri, "split", first, rows)
    labels: Sequence[str | None] = [None] * rows
    if with_label and "label" in schema.names:
        labels = read_labels(uri, first=first, rows=rows).to_pylist()
    for image_uri, name, split, label in zip(uris, names, splits, labels, strict=True):
        is_test = (split or "").strip().lower() == "test"  # all other images may be trained on
        yield Image(image_uri, name, "test" if is_test else "pool", label, None)


def _texts(uri: str, column: str, first: int, rows: int) -> list[str | None]:
    table = read_columns(uri, [column], first=first, rows=rows)
    texts: list[str | None] = table[column].cast(pa.string()).to_pylist()
    return texts


def _inspect(data: bytes | OSError, max_pixels: int) -> dict[str, Any]:
    """Return the id and size of an image without decoding it, or the reason for quarantine."""
    size = {} if isinstance(data, OSError) else {"bytes": len(data)}
    try:
        if isinstance(data, OSError):
            raise data
        width, height = check_header(data, max_pixels=max_pixels)
    except (BadImage, OSError) as error:
        reason, detail = explain(error)
        return {**size, "reason": reason, "detail": detail}
    image_id = hashlib.sha256(data).hexdigest()
    return {**size, "image_id": image_id, "width": width, "height": height}
