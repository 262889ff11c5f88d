"""Read each new image once: content hash and size from the header, or the reason for quarantine.

What was read is kept in the listing of the workspace, by where it was and by what tells that it
changed. It depends on nothing else: whoever lists the image again, in any order or beside any
others, reads it no more. A failure that may pass is not kept.
"""

import sys
from collections import Counter
from typing import Any, NamedTuple

import pyarrow as pa

from clipcore.image_files import BadImage
from clipcore.images import check_header
from tasks.images.parquet import read_columns
from tasks.images.quarantine import MAY_PASS, TOO_LARGE, explain
from tasks.images.sources import read_images
from tasks.storage.digests import content_id
from tasks.storage.store import Store

KEY = "key"
LISTED = pa.schema(
    [
        (KEY, pa.string()),
        ("bytes", pa.int64()),
        ("image_id", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
WORK = pa.schema([(KEY, pa.string()), ("uri", pa.string()), ("bytes", pa.int64())])
_NOT_KEPT = (*MAY_PASS, TOO_LARGE)  # the latter depends on a limit of the run


class ScanJob(NamedTuple):
    """Rows `first` to `first + rows` of the file `work` (schema `WORK`), read into `listing`."""

    work: str
    first: int
    rows: int
    listing: str
    max_bytes: int


class Scanned(NamedTuple):
    """What is not in the listing: how many are bad for which reason, and what is not kept."""

    reasons: Counter[str]
    not_kept: pa.Table


def listing_of(folder: str) -> Store:
    """Return the listing of a workspace, by its folder."""
    return Store(folder, KEY, {"kind": "listing"})


def scan_images(job: ScanJob) -> Scanned:
    """Read images and add what they are to the listing."""
    images = read_columns(job.work, WORK.names, first=job.first, rows=job.rows).to_pylist()
    rows: list[dict[str, Any]] = [{}] * len(images)
    for index, data in read_images([row["uri"] for row in images], max_bytes=job.max_bytes):
        rows[index] = {
            KEY: images[index][KEY],
            "bytes": images[index]["bytes"],
            **inspect(data),
        }
    kept = [row for row in rows if row.get("reason") not in _NOT_KEPT]
    listing_of(job.listing).add(pa.Table.from_pylist(kept, LISTED))
    others = [row for row in rows if row.get("reason") in _NOT_KEPT]
    reasons = Counter(row["reason"] for row in rows if row.get("reason"))
    return Scanned(reasons, pa.Table.from_pylist(others, LISTED))


def inspect(data: bytes | OSError) -> dict[str, Any]:
    """Return the id and size of an image without decoding it, or the reason for quarantine."""
    size = {} if isinstance(data, OSError) else {"bytes": len(data)}
    try:
        if isinstance(data, OSError):
            raise data
        width, height = check_header(data, max_pixels=sys.maxsize)
    except (BadImage, OSError) as error:
        reason, detail = explain(error)
        return {**size, "reason": reason, "detail": detail}
    return {**size, "image_id": content_id(data), "width": width, "height": height}
