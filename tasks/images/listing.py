"""List the files of a folder, a glob or a bucket URI, without opening them."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tasks.images.objects import Object, objects_in, objects_like
from tasks.specs import InputError
from tasks.storage.uris import (
    absolute,
    escaped,
    is_local,
    is_pattern,
    local_path,
    open_filesystem,
    redact,
)

DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}
_CHAINED = re.compile(r"\w+::|.*::\w+://", re.DOTALL)  # `zip://a.png::s3://b/c.zip`
_PASSWORD = re.compile(r"://[^/@\s:]*:[^/@\s]*@")
_SILENCE = re.compile(r"timed?[- ]?out|connect", re.IGNORECASE)  # what drivers say of no answer
_VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")


class NoImages(InputError):
    """There are no images where some are expected."""


class SourceUnreadable(InputError):
    """The images URI cannot be listed: driver, permission, network or format."""


class Entry(NamedTuple):
    """A file; `version` is its modification time or entity tag, which changes with the content."""

    uri: str
    size: int
    version: str


class Files(NamedTuple):
    """Where files were listed.

    Attributes:
        root: The folder that relative names start from.
        num_skipped: Number of links that lead out of the folder, which are not followed.
    """

    root: str
    num_skipped: int = 0


Take = Callable[[Entry], None]
"""Called with each file; none is held here."""


def list_files(uri: str, take: Take) -> Files:
    """List the files of a URI recursively, in any order, without hidden files.

    Raises:
        NoImages: a local path does not exist.
        SourceUnreadable: the URI cannot be listed; the message says what to do.
    """
    if not uri.strip():
        msg = "expected a folder, glob, bucket URI or Parquet file of images, got an empty text"
        raise NoImages(msg)
    if _PASSWORD.search(uri):
        msg = f"{redact(uri)}: give credentials by environment or profile, not inside the URI"
        raise SourceUnreadable(msg)
    return _list_local(uri, take) if is_local(uri) else _list_bucket(uri, take)


def one_line(error: BaseException) -> str:
    """Return an error as one line without credentials."""
    text = " ".join(str(error).split())
    return redact(f"{type(error).__name__}: {text}" if text else type(error).__name__)[:500]


# --- this machine ---------------------------------------------------------------------------


def _list_local(uri: str, take: Take) -> Files:
    path = local_path(absolute(uri))
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
        if is_folder:
            os.scandir(path).close()
        elif is_file:
            path.open("rb").close()
    except OSError as error:
        msg = f"{_shortened(uri)}: cannot be read ({error.strerror}); check the path, and whether "
        raise SourceUnreadable(f"{msg}you may read it") from error
    if is_folder:
        return _walk(path, take)
    if is_file:
        take(_entry(path))
        return Files(escaped(path.parent))
    if is_pattern(str(path)):
        return _list_glob(path, take)
    msg = "expected a folder, glob or Parquet file of images, got no such path; check it"
    raise NoImages(f"{uri}: {msg}")


def _list_glob(pattern: Path, take: Take) -> Files:
    """List what a pattern matches; it begins behind the last folder that is there as it stands."""
    start = next(folder for folder in pattern.parents if local_path(str(folder)).is_dir())
    root, relative = local_path(str(start)), pattern.relative_to(start)
    may_be_hidden = any(part.startswith(".") for part in relative.parts)
    seen: set[Entry] = set()  # a pattern may match a folder and what is in it
    num_skipped = 0
    try:
        for match in root.glob(str(relative)):  # of links to folders, `**` follows none
            parts = match.relative_to(root).parts
            if not may_be_hidden and any(part.startswith(".") for part in parts):
                continue
            if match.is_dir():
                num_skipped += _walk(match, seen.add).num_skipped
            elif match.is_file():
                seen.add(_entry(match))
    except (OSError, ValueError) as error:
        raise SourceUnreadable(f"{pattern}: cannot be listed ({one_line(error)})") from error
    for entry in seen:
        take(entry)
    return Files(escaped(root), num_skipped)


def _walk(root: Path, take: Take) -> Files:
    """List a tree; a folder that may not be read counts as one unreadable image.

    That image ends in quarantine, so that the folder is not left out without a notice.
    """
    resolved_root = Path(os.path.realpath(root))
    folders, num_skipped = [str(root)], 0
    while folders:
        folder = folders.pop()
        try:
            children = list(_visible(folder))
        except OSError as error:
            take(Entry(f"{escaped(folder)}/unreadable-folder.png", 0, str(error.errno)))
            continue
        for child in children:
            if _leads_out(child, resolved_root):
                num_skipped += 1
            elif child.is_dir(follow_symlinks=False):
                folders.append(child.path)
            elif _is_file(child):
                take(_entry(child))
    return Files(escaped(root), num_skipped)


def _visible(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as children:
        yield from (child for child in children if not child.name.startswith("."))


def _leads_out(child: os.DirEntry[str], root: Path) -> bool:
    # `Path.resolve` raises where links lead in a circle.
    return child.is_symlink() and not Path(os.path.realpath(child.path)).is_relative_to(root)


def _is_file(child: os.DirEntry[str]) -> bool:
    """Return whether this is a file, and no pipe, which would never end, nor a circle of links."""
    try:
        return child.is_file()
    except OSError:
        return False


def _entry(file: Path | os.DirEntry[str]) -> Entry:
    status = file.stat()
    return Entry(escaped(file), status.st_size, str(status.st_mtime_ns))


def _shortened(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


# --- buckets --------------------------------------------------------------------------------


def _list_bucket(uri: str, take: Take) -> Files:
    if _CHAINED.match(uri):
        msg = f"{redact(uri)}: chained URIs are not supported; unpack the archive first"
        raise SourceUnreadable(msg)
    if "?versionId=" in uri:
        msg = (
            f"{redact(uri)}: expected an object, got a version of one; copy it to a name of its own"
        )
        raise SourceUnreadable(msg)
    is_folder = uri.endswith("/")
    uri = uri if uri.endswith("://") else uri.rstrip("/")
    filesystem, path = _connect(uri)
    scheme = uri.split("://", 1)[0] + "://"
    prefix = uri.removesuffix(path) if uri.endswith(path) else scheme
    try:
        root, objects = _find_objects(filesystem, path, is_folder=is_folder)
        for name, info in objects:
            is_mark = name.endswith("/") or info.get("type") == "directory"
            if not is_mark and "/." not in name.removeprefix(root):
                take(Entry(prefix + name, int(info.get("size") or 0), _version(info)))
    except Exception as error:  # every driver raises errors of its own
        hint = "check that it exists, your credentials, and the permission to list and read it"
        msg = f"{redact(uri)}: cannot be listed ({one_line(error)}); {hint}"
        raise SourceUnreadable(msg) from error
    return Files(prefix + root)


def _connect(uri: str) -> tuple[Any, str]:
    try:
        return open_filesystem(uri)
    except ImportError as error:
        scheme = uri.split("://", 1)[0]
        driver = DRIVERS.get(scheme, f"the fsspec driver of {scheme}")
        msg = f"{redact(uri)}: {scheme}:// needs {driver}, which is not installed; install {driver}"
        raise SourceUnreadable(msg) from error
    except Exception as error:
        msg = f"{redact(uri)}: cannot be opened ({one_line(error)}); check the URI and credentials"
        raise SourceUnreadable(msg) from error


def _find_objects(filesystem: Any, path: str, *, is_folder: bool) -> tuple[str, Iterable[Object]]:
    """Return the folder that relative names start from, and its objects.

    Args:
        filesystem: Of the bucket.
        path: A pattern, an object, or the beginning of the names of objects; it may be all three.
        is_folder: Whether a slash at the end said which.
    """
    info = _info(filesystem, path)
    kind = info.get("type")
    if kind == "file" and not (is_folder and filesystem.isdir(path)):
        return path.rpartition("/")[0], [(path, info)]
    if not is_pattern(path) or kind == "directory":
        return path, objects_in(filesystem, path)
    root = path
    while is_pattern(root):
        root = root.rpartition("/")[0]
    return root, objects_like(filesystem, path)


def _info(filesystem: Any, path: str) -> dict[str, Any]:
    """Return what the driver says of a path, nothing where nothing is or nobody may look.

    Raises:
        Exception: of the driver, when the server is silent: each next question would wait as long.
    """
    try:
        return dict(filesystem.info(path))
    except Exception as error:  # every driver raises errors of its own
        if _SILENCE.search(one_line(error)):
            raise
        return {}


def _version(info: dict[str, Any]) -> str:
    return str(next((info[name] for name in _VERSIONS if info.get(name)), ""))
