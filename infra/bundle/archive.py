"""Folders as `.tar.xz`, whole or in parts, the same bytes whenever the same files are packed."""

import hashlib
import lzma
import tarfile
from contextlib import closing
from pathlib import Path
from typing import IO, cast

BLOCK = 2**20


class Parts:
    """A file to write to that goes on in another one when it is full.

    Args:
        path: The file. With a limit, `<path>.part-00` and so on.
        limit: The most bytes of a part; None makes one file.
    """

    def __init__(self, path: Path, limit: int | None) -> None:
        self.paths: list[Path] = []
        self._path = path
        self._limit = limit
        self._file: IO[bytes] | None = None
        self._room = 0

    def write(self, data: bytes) -> int:
        """Write all of `data`, in as many parts as it takes."""
        rest = memoryview(data)
        while rest:
            file = self._current(len(rest))
            piece = rest[: self._room]
            file.write(piece)
            self._room -= len(piece)
            rest = rest[len(piece) :]
        return len(data)

    def close(self) -> None:
        """Close the last part."""
        if self._file:
            self._file.close()

    def _current(self, needed: int) -> IO[bytes]:
        """Return the file with room in it; a single file always has some."""
        if self._file is None or (self._limit and not self._room):
            self.close()
            suffix = f".part-{len(self.paths):02}" if self._limit else ""
            self.paths.append(self._path.with_name(self._path.name + suffix))
            self._file = self.paths[-1].open("wb")
            self._room = self._limit or 0
        if not self._limit:
            self._room = needed
        return self._file


def pack(folder: Path, target: Path, *, seconds: int, preset: int, limit: int | None) -> list[Path]:
    """Pack a folder, under its name, with one thread and little memory; return the files.

    Names are sorted, owners are nobody in particular, and all files are of one time.

    Args:
        folder: What is packed.
        target: The archive, `.tar.xz`.
        seconds: The time of all files, since 1970.
        preset: Of xz: 0 is quick and large, 9 slow and small.
        limit: The most bytes of a part; None makes one file.
    """
    parts = Parts(target, limit)
    with (
        closing(parts),
        lzma.LZMAFile(cast("IO[bytes]", parts), "wb", preset=preset) as compressed,
        tarfile.open(fileobj=compressed, mode="w", bufsize=BLOCK) as archive,
    ):
        for path in [folder, *sorted(folder.rglob("*"))]:
            name = path.relative_to(folder.parent).as_posix()
            _add(archive, path, name, seconds)
    return parts.paths


def write_sums(paths: list[Path], target: Path) -> None:
    """Write the SHA-256 of files, as `sha256sum --check` reads it."""
    target.write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in paths))


def _add(archive: tarfile.TarFile, path: Path, name: str, seconds: int) -> None:
    info = archive.gettarinfo(path, name)
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = seconds
    info.mode = 0o755 if path.is_dir() or info.mode & 0o100 else 0o644
    if info.isreg():
        with path.open("rb") as file:
            archive.addfile(info, file)
    else:
        archive.addfile(info)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
