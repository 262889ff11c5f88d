"""Sources of images: a folder, a glob, a bucket, a Parquet file or a folder of Parquet files.

`list_source` lists the files and reads no image. `read_images` reads the bytes of images by their
URIs: a path, an object of a bucket, or `<Parquet file>#<row>`.
"""

import hashlib
import os
import random
import re
import stat
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from tasks.images.listing import Entry, NoImages, SourceUnreadable, list_files, one_line
from tasks.images.objects import FileTooLarge, read_object
from tasks.images.parquet import image_column, scan_images, survey
from tasks.images.spilled import AT_ONCE, Spill, sort_spilled
from tasks.images.suffixes import IMAGE_SUFFIXES, countable, describe_skipped
from tasks.storage.digests import fingerprint
from tasks.storage.uris import is_local, local_path, redact

TABLE_SUFFIXES = frozenset((".parquet", ".pq"))
LISTING = pa.schema(
    [("uri", pa.string()), ("rows", pa.int64()), ("size", pa.int64()), ("version", pa.string())]
)
READERS = 16  # threads; plain files wait for disk or network, not for the processor
ATTEMPTS = 3
PAUSE = 0.2  # seconds before the second attempt; four times as long before each next one
PATIENCE = 60  # seconds after which no other attempt begins
SILENT = (
    READERS  # images in a row that a server kept silent about, after which no more are asked for
)
_ROW = re.compile(r"(?P<file>.+\.(?:parquet|pq))#(?P<row>\d+)", re.IGNORECASE | re.DOTALL)
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

Kind = Literal["images", "tables"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Source:
    """The listed files of a source, before any image is read.

    Attributes:
        uri: As given, without passwords.
        root: Folder that relative names start from.
        kind: `images`: each file is an image. `tables`: Parquet files whose rows are images.
        listing: One row per file (schema `LISTING`), sorted by `uri`: `rows` that it holds (1 for
            an image), `size` in bytes, `version` (modification time or entity tag).
        num_skipped: Links that lead out of the folder and were not followed.
        skipped: Number of files that are not read, by extension in small letters; under "" those
            without one. `suffixes.package_for` names what would read them.
        suffixes: Number of the files in `listing` by extension.
        num_test: Rows of Parquet files that are for testing by their column `split`.
    """

    uri: str
    root: str
    kind: Kind
    listing: pa.Table
    num_skipped: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    suffixes: Mapping[str, int] = field(default_factory=dict)
    num_test: int = 0

    @property
    def num_images(self) -> int:
        """Number of images in all files."""
        return int(pc.sum(self.listing["rows"]).as_py() or 0)

    @cached_property
    def digest(self) -> str:
        """Return a digest of the names, sizes and versions of all files, in their order."""
        content = hashlib.sha256(fingerprint(self.root, self.kind).encode())
        for start in range(0, self.listing.num_rows, AT_ONCE):
            rows = self.listing.slice(start, AT_ONCE).to_pydict()
            content.update(fingerprint(rows).encode())
        return content.hexdigest()

    def tables(self) -> list[str]:
        """Return the URIs of the Parquet files; none for image files."""
        return self.listing["uri"].to_pylist() if self.kind == "tables" else []


class _NoAnswer(OSError):
    """A server was waited for in vain; the next images would wait as long."""


def list_source(uri: str) -> Source:
    """List the images of a folder, glob, bucket URI, Parquet file or folder of Parquet files.

    Folders are searched recursively by file extension, without hidden files and without links that
    lead out of the folder. In a folder with image files, Parquet files are ignored. No image is
    opened, only the footers of Parquet files.

    Raises:
        NoImages: there are no images.
        SourceUnreadable: the source cannot be listed; the message says what to install or check.
    """
    listed = _Listed()
    root, num_skipped = list_files(uri, listed.take)
    images = listed.images()
    listing, num_test = _list_tables(sorted(listed.tables)) if images is None else (images, 0)
    if not listing.num_rows:
        found = describe_skipped(listed.skipped, limit=5) or "none"
        links = f" and {num_skipped} links that lead out of it" if num_skipped else ""
        msg = (
            f"{redact(uri)}: expected images ({' '.join(sorted(IMAGE_SUFFIXES))}) or Parquet files "
            f"with rows, found {found}{links}; check the path"
        )
        raise NoImages(msg)
    kind: Kind = "tables" if images is None else "images"
    skipped, suffixes = listed.skipped_by(kind), listed.suffixes_of(kind)
    return Source(redact(uri), root, kind, listing, num_skipped, skipped, suffixes, num_test)


def read_images(
    uris: Sequence[str], *, max_bytes: int | None = None
) -> Iterator[tuple[int, bytes | OSError]]:
    """Yield the index in `uris` and the bytes of every image, or the error of reading it.

    The order is not that of `uris`. Plain files are read by a few threads, a bounded number ahead
    of the caller. Of Parquet files only the needed row groups of one column are read. Temporary
    failures are tried again. Errors are yielded and not raised, so that a bad file stops nothing.

    Raises:
        SourceUnreadable: a server kept silent about one image after the other.

    Args:
        uris: Paths, bucket URIs, and `<Parquet file>#<row>`, in any mixture.
        max_bytes: Larger files are not read and yield FileTooLarge.
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


def ahead(started: Iterable[Item], count: int) -> Iterator[Item]:
    """Yield what was started, with so many next ones begun while the caller works on one."""
    queue: deque[Item] = deque()
    for item in started:
        queue.append(item)
        if len(queue) > count:
            yield queue.popleft()
    yield from queue


class _Listed:
    """Files by what they are; of image files a bounded number is in memory."""

    def __init__(self) -> None:
        self.skipped = Counter[str]()
        self._images = Counter[str]()
        self.tables: list[Entry] = []
        self._waiting: list[tuple[Entry, int]] = []
        self._spill: Spill | None = None

    def take(self, entry: Entry) -> None:
        """Add a file."""
        suffix = _suffix(entry.uri)
        if suffix in TABLE_SUFFIXES:
            self.tables.append(entry)
        elif suffix in IMAGE_SUFFIXES:
            self._images[suffix] += 1
            self._waiting.append((entry, 1))
        else:
            self.skipped[countable(suffix)] += 1
        if len(self._waiting) == AT_ONCE:
            self._spill = self._spill or Spill(LISTING)
            self._spill.add(_batch(self._waiting))
            self._waiting = []

    def images(self) -> pa.Table | None:
        """Return the image files (schema `LISTING`) by URI; None without any."""
        if self._spill is None:
            return _listing(sorted(self._waiting)) if self._waiting else None
        self._spill.add(_batch(self._waiting))
        return sort_spilled(self._spill.table(), "uri")

    def skipped_by(self, kind: Kind) -> Counter[str]:
        """Return the number of files by extension that a source of this kind does not read."""
        ignored = self.tables if kind == "images" else []
        return self.skipped + Counter(_suffix(entry.uri) for entry in ignored)

    def suffixes_of(self, kind: Kind) -> Counter[str]:
        """Return the number of files by extension that a source of this kind reads."""
        return self._images if kind == "images" else Counter(_suffix(e.uri) for e in self.tables)


def _suffix(uri: str) -> str:
    return os.path.splitext(uri)[1].lower()  # noqa: PTH122  # of URIs too


def _listing(entries: Iterable[tuple[Entry, int]]) -> pa.Table:
    return pa.Table.from_batches([_batch(list(entries))], LISTING)


def _batch(entries: Sequence[tuple[Entry, int]]) -> pa.RecordBatch:
    rows = [(entry.uri, num_rows, entry.size, entry.version) for entry, num_rows in entries]
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    arrays = [pa.array(c, field.type) for c, field in zip(columns, LISTING, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=LISTING)


def _list_tables(entries: Sequence[Entry]) -> tuple[pa.Table, int]:
    """Return the files with rows, and how many of these rows are for testing."""

    def look(entry: Entry) -> tuple[Entry, int, int]:
        schema, num_rows, num_test = survey(entry.uri)
        image_column(entry.uri, schema)
        return entry, num_rows, num_test

    with ThreadPoolExecutor(READERS) as readers:
        seen = list(readers.map(look, entries))
    listing = _listing((entry, num_rows) for entry, num_rows, _ in seen if num_rows)
    return listing, sum(num_test for *_, num_test in seen)


def _read_files(
    plain: Iterable[tuple[int, str]], max_bytes: int | None
) -> Iterator[tuple[int, bytes | OSError]]:
    num_silent = 0
    with ThreadPoolExecutor(READERS) as readers:
        started = ((index, uri, readers.submit(_try_file, uri, max_bytes)) for index, uri in plain)
        for index, uri, future in ahead(started, 2 * READERS):
            read = future.result()
            if not isinstance(read, _NoAnswer):
                num_silent = 0
            elif (num_silent := num_silent + 1) == SILENT:
                readers.shutdown(cancel_futures=True)
                msg = f"{redact(uri)}: no answer for this and the {SILENT - 1} images before it"
                raise SourceUnreadable(f"{msg} ({read}); run again once the server answers")
            yield index, read


def _try_file(uri: str, max_bytes: int | None) -> bytes | OSError:
    started = time.monotonic()
    for attempt in range(ATTEMPTS):
        try:
            return _read_local(uri, max_bytes) if is_local(uri) else read_object(uri, max_bytes)
        except (*_PERMANENT, FileTooLarge) as error:
            return error
        except Exception as error:  # noqa: BLE001  # every driver raises errors of its own
            problem = OSError(one_line(error))
            if time.monotonic() - started > PATIENCE:
                return _NoAnswer(one_line(error))
            _pause(attempt)
    return problem


def _pause(attempt: int) -> None:
    if attempt + 1 < ATTEMPTS:
        time.sleep(PAUSE * 4**attempt * random.uniform(0.5, 1.5))  # noqa: S311  # not all at once


def _read_local(uri: str, max_bytes: int | None) -> bytes:
    path = local_path(uri)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device would never end
        msg = f"{uri} is not a regular file"
        raise IsADirectoryError(msg)
    _check_size(status.st_size, max_bytes)
    return path.read_bytes()


def _check_size(size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        msg = f"{size} bytes, at most {max_bytes} are read"
        raise FileTooLarge(msg)


def _read_rows(
    uri: str, wanted: dict[int, int], max_bytes: int | None
) -> Iterator[tuple[int, bytes | OSError]]:
    """Yield (index, bytes or error) of rows of a Parquet file; `wanted` is row by index."""
    absent = FileNotFoundError(f"{redact(uri)} has fewer rows than when it was listed")
    errors: dict[int, OSError] = dict.fromkeys(wanted, absent)
    for attempt in range(ATTEMPTS):
        try:
            for index, value in scan_images(uri, sorted((wanted[i], i) for i in errors)):
                if isinstance(value, OSError):
                    errors[index] = value
                else:
                    del errors[index]
                    yield index, _cell(value, max_bytes)
        except Exception as error:  # noqa: BLE001  # every driver raises errors of its own
            problem = error if isinstance(error, _PERMANENT) else OSError(one_line(error))
            errors = dict.fromkeys(errors, problem)
        if all(isinstance(problem, _PERMANENT) for problem in errors.values()):
            break
        _pause(attempt)
    yield from errors.items()


def _cell(value: bytes | str | None, max_bytes: int | None) -> bytes | OSError:
    """Return the image in a cell of a Parquet file, or in the file that it names."""
    if isinstance(value, str):
        return _try_file(value, max_bytes)
    if value is None:
        return FileNotFoundError("the row has no image bytes")
    try:
        _check_size(len(value), max_bytes)
    except FileTooLarge as error:
        return error
    return value
