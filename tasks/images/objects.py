"""Objects of a bucket: listed a page of the server's at a time, and read in one request each."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from fsspec.asyn import sync
from fsspec.utils import glob_translate

from tasks.storage.drivers import waits
from tasks.storage.uris import PATTERN, open_filesystem

PAGE = 1000  # objects of a listing that a server is asked for at a time: the most that S3's gives
Object = tuple[str, dict[str, Any]]  # its name, and what its driver says of it


class FileTooLarge(OSError):
    """The file has more bytes than the limit and was not read."""


def objects_in(filesystem: Any, folder: str) -> Iterator[Object]:
    """Yield the objects whose names begin with a folder, in any order; drivers name it.

    Raises:
        FileNotFoundError: there are none. An empty bucket is no error.
    """
    folder = folder.rstrip("/")
    num_found = 0
    for found in _beginning(filesystem, f"{folder}/"):
        num_found += 1
        yield found
    if not num_found and "/" in folder:
        raise FileNotFoundError(f"{folder}: no object has a name that begins so")


def objects_like(filesystem: Any, pattern: str) -> Iterator[Object]:
    """Yield the objects that a pattern means, and those of folders that it means."""
    matches = re.compile(glob_translate(pattern)).match
    whole = "**" in pattern  # which means the objects of folders too
    first = PATTERN.search(pattern)
    start = pattern[: first.start()] if first else pattern
    num_parts = start.count("/") + 1
    for name, info in _beginning(filesystem, start):
        parts = name.split("/")
        folders = () if whole else range(num_parts, len(parts))
        if matches(name) or any(matches("/".join(parts[:count])) for count in folders):
            yield name, info


def _beginning(filesystem: Any, start: str) -> Iterator[Object]:
    """Yield the objects whose names begin with a text; a folder's own mark ends with a slash."""
    protocol = filesystem.protocol
    protocols = (protocol,) if isinstance(protocol, str) else protocol
    pages = next((_PAGES[name] for name in protocols if name in _PAGES), _folders)
    return pages(filesystem, start)


def _pages_of_s3(filesystem: Any, start: str) -> Iterator[Object]:
    bucket, _, prefix = start.partition("/")
    more: dict[str, str] = {}
    while True:  # the driver tries each page again
        page = filesystem.call_s3(
            "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=PAGE, **more
        )
        for info in page.get("Contents", ()):
            yield f"{bucket}/{info['Key']}", {**info, "size": info["Size"]}
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _pages_of_gcs(filesystem: Any, start: str) -> Iterator[Object]:
    bucket, _, prefix = start.partition("/")
    token: str | None = None
    while True:
        asked = {"prefix": prefix, "pageToken": token, "maxResults": PAGE}
        page = filesystem.call("GET", "b/{}/o", bucket, **asked, json_out=True)
        yield from ((f"{bucket}/{info['name']}", info) for info in page.get("items", ()))
        if not (token := page.get("nextPageToken")):
            return


def _pages_of_azure(filesystem: Any, start: str) -> Iterator[Object]:
    container, _, prefix = start.partition("/")
    blobs = filesystem.service_client.get_container_client(container).list_blobs(
        name_starts_with=prefix, include=["metadata"], results_per_page=PAGE, **waits("az://")
    )
    pages = blobs.by_page()
    while (page := sync(filesystem.loop, _next_page, pages)) is not None:
        for blob in page:
            is_folder = "true" in map(blob.metadata.get, ("hdi_isfolder", "Hdi_isfolder"))
            kind = "directory" if is_folder else "file"
            info = {"size": blob.size, "etag": f'"{blob.etag}"', "type": kind}
            yield f"{container}/{blob.name}", info


async def _next_page(pages: Any) -> list[Any] | None:
    page = await anext(pages, None)
    return None if page is None else [blob async for blob in page]


def _folders(filesystem: Any, start: str) -> Iterator[Object]:
    """Yield objects of a driver without pages, with those of one folder in memory at a time."""
    folder = start.rpartition("/")[0]
    for info in filesystem.ls(folder, detail=True):  # raises the reason: absent, or no permission
        name = info["name"]
        if not name.startswith(start):
            continue
        if info.get("type") != "directory":
            yield name, info
        elif name.rstrip("/") != folder.rstrip("/"):
            yield from filesystem.find(name, detail=True).items()


_PAGES: dict[str, Callable[[Any, str], Iterator[Object]]] = {
    "s3": _pages_of_s3,
    "gs": _pages_of_gcs,
    "az": _pages_of_azure,
}


def read_object(uri: str, max_bytes: int | None) -> bytes:
    """Return the bytes of an object, in one request, and never more than one beyond the limit.

    Raises:
        FileTooLarge: it has more.
    """
    filesystem, path = open_filesystem(uri)
    end = None if max_bytes is None else max_bytes + 1
    try:
        data = bytes(filesystem.cat_file(path, start=0, end=end))
    except Exception as error:  # every driver raises errors of its own
        if "range" not in str(error).lower() or filesystem.size(path):
            raise
        return b""  # of which a server has no range
    if max_bytes is not None and len(data) > max_bytes:
        msg = f"more than {max_bytes} bytes, which is the most that is read"
        raise FileTooLarge(msg)
    return data
