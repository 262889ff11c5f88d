"""What "images" means: a folder, a glob, a bucket, a Parquet file or a folder of Parquet.

`list_source` finds the files and reads no image. `read_images` brings the bytes of any images of
any source by their URIs: a path, an object of a bucket, or `<Parquet file>#<row>`.
"""

import os
import re
import stat
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from tasks.images.listing import Entry, NoImages, list_files, one_line
from tasks.images.parquet import image_column, read_footer, scan_images
from tasks.storage.uris import is_local, local_path, open_filesystem, redact

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
TABLE_SUFFIXES = frozenset((".parquet", ".pq"))
LISTING = pa.schema(
    [("uri", pa.string()), ("rows", pa.int64()), ("size", pa.int64()), ("version", pa.string())]
)
READERS = 16  # threads; plain files wait for a disk or a network, not for the processor
ATTEMPTS = 3
PAUSE = 0.2  # seconds before the second attempt, four times as long before the next
_ROW = re.compile(r"(?P<file>.+\.(?:parquet|pq))#(?P<row>\d+)", re.IGNORECASE | re.DOTALL)
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

Kind = Literal["images", "tables"]


class FileTooLarge(OSError):
    """More bytes than the limit; the file was not read."""


@dataclass(frozen=True)
class Source:
    """Files that were found, before any image of them was read.

    Attributes:
        uri: As the person gave it, without passwords.
        root: Folder that relative names start from.
        kind: `images`: each file is an image. `tables`: Parquet files whose rows are images.
        listing: One row per file (schema `LISTING`), sorted by `uri`: `rows` that it holds (1 for
            an image), `size` in bytes, `version` (modification time or entity tag).
        num_skipped: Links that lead out of the folder and were not followed.
    """

    uri: str
    root: str
    kind: Kind
    listing: pa.Table
    num_skipped: int = 0

    @property
    def num_images(self) -> int:
        """Images in all files."""
        return int(pc.sum(self.listing["rows"]).as_py() or 0)

    def tables(self) -> list[str]:
        """Return the URIs of the Parquet files; none if the files are images."""
        return self.listing["uri"].to_pylist() if self.kind == "tables" else []


def list_source(uri: str) -> Source:
    """Find the images of a folder, glob, bucket URI, Parquet file or folder of Parquet.

    Folders are searched recursively by file extension; hidden files are left out, and so are
    links that lead out of the folder. A folder with images in it is a folder of images; one with
    Parquet files only is a table. No image is opened, only the footers of Parquet files.

    Raises:
        NoImages: if nothing is there.
        SourceUnreadable: if it cannot be listed; the message says what to install or to check.
    """
    root, entries, num_skipped = list_files(uri)
    images = [entry for entry in entries if _suffix(entry.uri) in IMAGE_SUFFIXES]
    tables = [entry for entry in entries if _suffix(entry.uri) in TABLE_SUFFIXES]
    listing = _listing((entry, 1) for entry in images) if images else _list_tables(tables)
    if not listing.num_rows:
        links = f" and {num_skipped} links that lead out of it" if num_skipped else ""
        msg = (
            f"{redact(uri)}: expected images ({' '.join(sorted(IMAGE_SUFFIXES))}) or Parquet files "
            f"with rows, found {len(entries)} other files{links}; check the path"
        )
        raise NoImages(msg)
    return Source(redact(uri), root, "images" if images else "tables", listing, num_skipped)


def read_images(
    uris: Sequence[str], *, max_bytes: int | None = None
) -> Iterator[tuple[int, bytes | OSError]]:
    """Yield the bytes of every image, or why they cannot be had, with its index in `uris`.

    The order is not that of `uris`. Plain files are read by a few threads, a bounded number
    ahead of the reader. Of Parquet files only the needed row groups of one column are read.
    A failure that may pass is tried again; what is still failing then is an answer, not an
    exception, so that one bad file stops nothing.

    Args:
        uris: Paths, bucket URIs, and `<Parquet file>#<row>`, in any mixture.
        max_bytes: A larger file is not read: its answer is FileTooLarge.
    """
    plain: list[tuple[int, str]] = []
    tables: dict[str, dict[int, int]] = defaultdict(dict)
    for index, uri in enumerate(uris):
        if match := _ROW.fullmatch(uri):
            tables[match["file"]][index] = int(match["row"])
        else:
            plain.append((index, uri))
    yield from _read_files(plain, max_bytes)
    for table, wanted in tables.items():
        yield from _read_rows(table, wanted, max_bytes)


def _suffix(uri: str) -> str:
    return os.path.splitext(uri)[1].lower()  # noqa: PTH122  # of URIs too


def _listing(entries: Iterable[tuple[Entry, int]]) -> pa.Table:
    rows = [(entry.uri, num_rows, entry.size, entry.version) for entry, num_rows in entries]
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    arrays = [pa.array(c, field.type) for c, field in zip(columns, LISTING, strict=True)]
    return pa.Table.from_arrays(arrays, schema=LISTING)


def _list_tables(entries: Sequence[Entry]) -> pa.Table:
    def footer(entry: Entry) -> tuple[Entry, int]:
        schema, num_rows = read_footer(entry.uri)
        image_column(entry.uri, schema)
        return entry, num_rows

    with ThreadPoolExecutor(READERS) as readers:
        return _listing(pair for pair in readers.map(footer, entries) if pair[1])


def _read_files(
    plain: Iterable[tuple[int, str]], max_bytes: int | None
) -> Iterator[tuple[int, bytes | OSError]]:
    waiting: deque[tuple[int, Future[bytes | OSError]]] = deque()
    with ThreadPoolExecutor(READERS) as readers:
        for index, uri in plain:
            waiting.append((index, readers.submit(_try_file, uri, max_bytes)))
            if len(waiting) >= 2 * READERS:
                ready, answer = waiting.popleft()
                yield ready, answer.result()
        for ready, answer in waiting:
            yield ready, answer.result()


def _try_file(uri: str, max_bytes: int | None) -> bytes | OSError:
    for attempt in range(ATTEMPTS):
        try:
            return _read_local(uri, max_bytes) if is_local(uri) else _read_object(uri, max_bytes)
        except (*_FINAL, FileTooLarge) as error:
            return error
        except Exception as error:  # noqa: BLE001  # every driver raises errors of its own
            problem = OSError(one_line(error))
            _wait(attempt)
    return problem


def _wait(attempt: int) -> None:
    if attempt + 1 < ATTEMPTS:
        time.sleep(PAUSE * 4**attempt)


def _read_local(uri: str, max_bytes: int | None) -> bytes:
    path = local_path(uri)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device would never end
        msg = f"{uri} is not a regular file"
        raise IsADirectoryError(msg)
    _check_size(status.st_size, max_bytes)
    return path.read_bytes()


def _read_object(uri: str, max_bytes: int | None) -> bytes:
    filesystem, path = open_filesystem(uri)
    if max_bytes is not None:
        _check_size(int(filesystem.size(path) or 0), max_bytes)
    return bytes(filesystem.cat_file(path))


def _check_size(size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        msg = f"{size} bytes, at most {max_bytes} are read"
        raise FileTooLarge(msg)


def _read_rows(
    uri: str, wanted: dict[int, int], max_bytes: int | None
) -> Iterator[tuple[int, bytes | OSError]]:
    """Yield the images of rows of one Parquet file; `wanted` is row by index."""
    absent = FileNotFoundError(f"{redact(uri)} has fewer rows than when it was listed")
    left: dict[int, OSError] = dict.fromkeys(wanted, absent)
    for attempt in range(ATTEMPTS):
        try:
            for index, value in scan_images(uri, sorted((wanted[i], i) for i in left)):
                if isinstance(value, OSError):
                    left[index] = value
                else:
                    del left[index]
                    yield index, _cell(value, max_bytes)
        except Exception as error:  # noqa: BLE001  # every driver raises errors of its own
            problem = error if isinstance(error, _FINAL) else OSError(one_line(error))
            left = dict.fromkeys(left, problem)
        if all(isinstance(problem, _FINAL) for problem in left.values()):
            break
        _wait(attempt)
    yield from left.items()


def _cell(value: bytes | None, max_bytes: int | None) -> bytes | OSError:
    if value is None:
        return FileNotFoundError("the row has no image bytes")
    try:
        _check_size(len(value), max_bytes)
    except FileTooLarge as error:
        return error
    return value
