"""Files that are absent or complete at all times, on a disk or in a bucket.

Local files are renamed to their name after they were synced to the disk; objects of a bucket are
written in one put.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast
from uuid import uuid4

from tasks.specs import InputError
from tasks.storage.digests import ShardMismatch, plain
from tasks.storage.uris import (
    absolute,
    is_escaped,
    is_local,
    local_path,
    open_filesystem,
    redact,
)

LONGEST_NAME = 255  # bytes of a name in a folder
SHOWN = 200  # characters of a name that is wrong


def exists(uri: str) -> bool:
    """Return whether a file or folder exists."""
    if is_local(uri):
        return _is_there(local_path(uri))
    filesystem, path = open_filesystem(uri)
    return bool(filesystem.exists(path))


def _is_there(path: Path) -> bool:
    """Return whether a path exists, also of a text that is too long for one."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Tell in a sentence what keeps a bucket from being looked into, inside the block.

    Raises:
        InputError: its driver is absent, or raised an error of its own.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_local(uri):
            raise
        reason = redact(" ".join(str(error).split()))[:SHOWN]
        raise InputError(
            f"{redact(uri)}: cannot be looked into ({type(error).__name__}: {reason}); check that "
            "it exists, its driver (coft[s3], coft[gcs]), your credentials and permissions"
        ) from error


def names_in(folder: str) -> set[str]:
    """Return the names of the entries of a folder, in one request; none if it is absent."""
    if is_local(folder):
        path = local_path(folder)
        is_folder = _is_there(path) and path.is_dir()
        return {child.name for child in path.iterdir()} if is_folder else set()
    filesystem, path_inside = open_filesystem(folder)
    exists_there = filesystem.exists(path_inside)
    names = filesystem.ls(path_inside, detail=False) if exists_there else ()
    return {name.rstrip("/").rsplit("/", 1)[-1] for name in names}


def check_target(uri: str) -> None:
    """Refuse a file that could not be written, before the work whose result it shall hold.

    Raises:
        InputError: a folder has its name, no file of that name can be made, or it is in a bucket.
    """
    is_here = is_local(uri)
    if problem := _problem_of_target(absolute(uri)) if is_here else "expected a path, got a URI":
        raise InputError(f"{redact(uri)[:SHOWN]}: {problem}; name another file")


def _problem_of_target(place: str) -> str | None:
    """Return why a file cannot be written at a place, None if it can."""
    path = Path(place)
    if is_escaped(place) or max(len(os.fsencode(part)) for part in path.parts) > LONGEST_NAME:
        return f"expected a name in UTF-8 of at most {LONGEST_NAME} bytes"
    if path.exists():
        may_be_written = path.is_file() or path.is_relative_to("/dev")  # a pipe may have no reader
        is_file = may_be_written and not path.is_dir() and os.access(path, os.W_OK)
        return None if is_file else "expected a file that can be written"
    try:
        try_writing_in(nearest_existing(path))
    except OSError as error:
        return str(error)
    return None


def nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest one above it that there is, also a link to nothing."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def try_writing_in(folder: Path) -> None:
    """Make a file in a folder and let it go: permissions tell but half of it.

    Raises:
        OSError: says why no file can be made.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is {'a file' if folder.is_file() else 'no folder'}")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"coft")
    except OSError as error:
        raise PermissionError(f"{folder} cannot be written ({error.strerror})") from error


def content_hash(uri: str) -> str:
    """Return the SHA-256 of a file, which is read in pieces."""
    digest = hashlib.sha256()
    with open_read(uri) as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def remove(uri: str) -> None:
    """Delete a file, or a folder with its content; an absent one is no error."""
    if is_local(uri):
        path = local_path(uri)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    elif exists(uri):
        filesystem, path_inside = open_filesystem(uri)
        filesystem.rm(path_inside, recursive=True)


@contextmanager
def open_read(uri: str) -> Iterator[BinaryIO]:
    """Open a file of any URI for reading bytes; a pipe that nobody writes to is empty.

    Raises:
        OSError: it is absent or may not be read, or is a device, which may have no end.
    """
    if is_local(uri):
        with open(local_path(uri), "rb", opener=_opened) as file:  # which a Path cannot
            yield file
    else:
        filesystem, path = open_filesystem(uri)
        with filesystem.open(path, "rb") as file:
            yield cast("BinaryIO", file)


def _opened(path: str, flags: int) -> int:
    """Open a file or a pipe, and wait for nobody who might come to write."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind) or stat.S_ISFIFO(kind) or stat.S_ISDIR(kind):  # Python refuses folders
        os.set_blocking(descriptor, True)
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a file", path)


@contextmanager
def open_write(uri: str) -> Iterator[BinaryIO]:
    """Open a file that gets its name when the block ends without an error."""
    if is_local(uri):
        with _open_local(local_path(uri)) as local:
            yield local
    else:
        buffer = BytesIO()
        yield buffer
        filesystem, path = open_filesystem(uri)
        filesystem.pipe_file(path, buffer.getvalue())  # one put: all or nothing


@contextmanager
def _open_local(target: Path) -> Iterator[BinaryIO]:
    # Workers that write the same name write equal content, so the order of renames does not matter.
    if target.exists() and not (target.is_file() or target.is_dir()):
        with target.open("wb") as file:  # a pipe or a device, in whose place no file may come
            yield file
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        _sync_folder(target.parent)
    except OSError as error:  # a write does not say of which file
        error.filename = error.filename or str(target)
        raise
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # A rename survives a power cut only after the folder itself is synced.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(uri: str) -> bytes:
    """Return the content of a file."""
    with open_read(uri) as file:
        return file.read()


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file atomically."""
    with open_write(uri) as file:
        file.write(data)


def write_changed(uri: str, data: bytes) -> None:
    """Write a file, unless it has this content: a newer file would be read anew."""
    if not exists(uri) or read_bytes(uri) != data:
        write_bytes(uri, data)


def read_json(uri: str) -> Any:
    """Return the value of a JSON file.

    Raises:
        ShardMismatch: the file is no JSON.
    """
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        msg = f"{redact(uri)}: expected a JSON file, got something else; delete it and run again"
        raise ShardMismatch(msg) from error


def write_json(uri: str, value: object) -> None:
    """Write a value as JSON, atomically."""
    write_bytes(uri, json.dumps(value, indent=1, default=plain, ensure_ascii=True).encode())


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """Yield the path of a local file or folder, or of a temporary copy of a remote one."""
    if is_local(uri):
        yield local_path(uri)
        return
    filesystem, path = open_filesystem(uri)
    with tempfile.TemporaryDirectory(prefix="coft-") as folder:
        target = Path(folder) / path.rstrip("/").rsplit("/", 1)[-1]
        kind: Literal["folder", "file"] = "folder" if filesystem.isdir(path) else "file"
        filesystem.get(path.rstrip("/"), str(target), recursive=kind == "folder")
        yield target
