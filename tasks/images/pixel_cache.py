"""Decoded pixels on this machine's disk: written once, read by all processes of a run.

An image is its id, the SHA-256 of its bytes, so what one process decoded is right for all. Each
process appends to two files of its own: `<unique>.pixels` holds one record after the other, pixels
with their checksum, and `<unique>.keys` gets an image's key once its record is there, so that no
reader sees half an image. Memory holds the places, some 200 bytes an image, and no pixels: records
are read into the caller's memory and not mapped.
"""

import hashlib
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import Lock
from uuid import uuid4

import numpy as np

from clipcore.images import Preprocess
from tasks.images.cache_folder import CacheFolder, folder_of_run
from tasks.progress import say

KEY_BYTES, CHECKSUM_BYTES = 16, 4
PIXELS, KEYS = ".pixels", ".keys"
RECORDS = 2**40  # more than a file has: (file, record) is one number
WAIT_SECONDS = 0.002


class _Slab:
    """The two files of one process, and how many of their records are known here."""

    def __init__(self, folder: CacheFolder, name: str, flags: int) -> None:
        self.pixels = folder.open(name + PIXELS, flags)
        self.keys = folder.open(name + KEYS, flags)
        self.count = 0


class PixelCache:
    """Pixels of one preprocessing, uint8 of shape (size, size, 3), by image id.

    Args:
        folder: Shared by the processes of a run; without one nothing is kept.
        preprocess: What made the pixels.
    """

    def __init__(self, folder: CacheFolder | None, preprocess: Preprocess) -> None:
        self.is_open = folder is not None  # for writing
        self._folder = folder
        self._digest = preprocess.digest()
        self._num_pixels = preprocess.size**2 * 3
        self._record = self._num_pixels + CHECKSUM_BYTES
        self._slabs: list[_Slab] = []
        self._numbers: dict[str, int] = {}  # of slabs, by name
        self._places: dict[bytes, int] = {}
        self._own: int | None = None
        self._room = 0  # bytes that this process may still write
        self._lock = Lock()

    def __contains__(self, image_id: str) -> bool:
        """Whether pixels were there when `refresh` was last called, or were written here."""
        return self._key(image_id) in self._places

    def read(self, image_id: str, out: np.ndarray) -> bool:
        """Copy an image's pixels into `out`; False if they are not there, or not as written."""
        key = self._key(image_id)
        place = self._places.get(key)
        if place is None:
            return False
        number, record = divmod(place, RECORDS)
        flat, checksum = out.data.cast("B"), bytearray(CHECKSUM_BYTES)
        try:
            file, offset = self._slabs[number].pixels, record * self._record
            count = os.preadv(file, [flat, memoryview(checksum)], offset)
        except OSError:
            count = 0
        if count == self._record and checksum == _checksum(flat):
            return True
        self._places.pop(key, None)
        return False

    def write(self, image_id: str, pixels: np.ndarray) -> bool:
        """Keep an image's pixels for all processes; False when there is no room left."""
        data = np.ascontiguousarray(pixels).data.cast("B")
        with self._lock:
            try:
                if not self._has_room():
                    return False
                self._append(self._key(image_id), [data, _checksum(data)])
            except OSError as error:
                self._close(f"cannot be written ({error.strerror or error})")
        return self.is_open

    def refresh(self) -> None:
        """Learn what the other processes have written since."""
        if self._folder is None:
            return
        with self._lock:
            for name in self._names(self._folder):
                if name not in self._numbers:
                    with suppress(OSError):  # gone: then it is not read
                        self._add_slab(name, _Slab(self._folder, name, os.O_RDONLY))
            for number, slab in enumerate(self._slabs):
                if number != self._own:
                    self._read_keys(number, slab)

    @contextmanager
    def claim(self, image_id: str) -> Iterator[None]:
        """Keep other processes from decoding an image meanwhile; what they wrote before is known.

        A process that ends, in any way, gives up what it claimed.
        """
        if self._folder is None or not self.is_open:
            yield
            return
        number = int.from_bytes(self._key(image_id)[:7], "big")
        while not self._folder.try_claim(number):
            time.sleep(WAIT_SECONDS)
        try:
            self.refresh()
            yield
        finally:
            self._folder.give_up(number)

    def _key(self, image_id: str) -> bytes:
        name = f"{self._digest}/{image_id}".encode()
        return hashlib.blake2b(name, digest_size=KEY_BYTES).digest()

    def _has_room(self) -> bool:
        """Return whether one more image may be written, and close the cache if not."""
        if self._folder is None or not self.is_open:
            return False
        if self._room < self._record:
            more = self._folder.reserve(self._record)
            if not more:
                self._close(f"is full ({self._folder.max_bytes / 2**30:.3g} GiB)")
                return False
            self._room += more
        if self._own is None:
            name = f"{self._digest}-{uuid4().hex}"
            slab = _Slab(self._folder, name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            self._own = self._add_slab(name, slab)
        return True

    def _append(self, key: bytes, record: list[memoryview | bytes]) -> None:
        """Write a record, then its key."""
        number = self._own or 0
        slab = self._slabs[number]
        write_all(slab.pixels, b"".join(record), slab.count * self._record)
        write_all(slab.keys, key, slab.count * KEY_BYTES)
        self._places[key] = number * RECORDS + slab.count
        slab.count += 1
        self._room -= self._record

    def _close(self, why: str) -> None:
        self.is_open = False
        say(f"The cache of decoded images {why}: further images are decoded in every pass.")

    def _names(self, folder: CacheFolder) -> list[str]:
        try:
            names = os.listdir(folder.path)  # noqa: PTH208  # called often
        except OSError:
            return []
        return [
            name.removesuffix(KEYS)
            for name in names
            if name.startswith(self._digest) and name.endswith(KEYS)
        ]

    def _add_slab(self, name: str, slab: _Slab) -> int:
        self._numbers[name] = len(self._slabs)
        self._slabs.append(slab)
        return self._numbers[name]

    def _read_keys(self, number: int, slab: _Slab) -> None:
        count = os.fstat(slab.keys).st_size // KEY_BYTES - slab.count
        if count <= 0:
            return
        data = os.pread(slab.keys, count * KEY_BYTES, slab.count * KEY_BYTES)
        for start in range(0, len(data) - KEY_BYTES + 1, KEY_BYTES):
            self._places[data[start : start + KEY_BYTES]] = number * RECORDS + slab.count
            slab.count += 1


def _checksum(data: memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "big")


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of the data at an offset of a file."""
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def cache_of_run(preprocess: Preprocess, max_bytes: int | None) -> PixelCache:
    """Return this process's door to the run's cache on this machine.

    Args:
        preprocess: What makes the pixels.
        max_bytes: Bound on the disk that it takes; 0 keeps nothing, for None see `default_bound`.
    """
    return _cache_in(None if max_bytes == 0 else _folder(max_bytes), preprocess)


@cache
def _folder(max_bytes: int | None) -> CacheFolder | None:
    try:
        return CacheFolder(folder_of_run(), max_bytes=max_bytes)
    except OSError as error:
        say(f"Decoded images are not kept on this machine: {error}")
        return None


@cache
def _cache_in(folder: CacheFolder | None, preprocess: Preprocess) -> PixelCache:
    return PixelCache(folder, preprocess)
