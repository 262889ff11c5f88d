"""URIs: plain local paths, and those of fsspec (`s3://`, `gs://`, `memory://`)."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from fsspec.core import url_to_fs

from tasks.specs import URI
from tasks.storage.drivers import limit_rounds, waits

PATTERN = re.compile(r"[*?\[]")  # a character of glob patterns
_FILE = re.compile(r"file://(?:localhost(?=/))?", re.IGNORECASE)
_BYTE = re.compile(rb"\\x([89a-f][0-9a-f])")  # as `escaped` writes it
_USER = re.compile(r"(://)[^/@\s]+@")
_SIGNATURE = re.compile(
    r"([?&][^=&\s]*(?:sig|signature|token|key|secret|password|credential)=)[^&\s]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """Hide passwords and signatures of all URIs in a text for people or logs."""
    return _SIGNATURE.sub(r"\1***", _USER.sub(r"\1***@", text))


def is_local(uri: str) -> bool:
    """Return whether a URI is a path on this machine."""
    return _FILE.match(uri) is not None or not URI.match(uri)


def local_path(uri: str) -> Path:
    """Return the path of a local URI; `%`, `?`, `::` and `#` in a path have no meaning.

    Two things may be spelled in another way, unless there is a path of just that spelling: a byte
    that is not UTF-8 (see `escaped`), and `%20` for a space, in what begins with `file://`.
    """
    match = _FILE.match(uri)
    text = uri[match.end() :] if match else uri
    text = os.path.expanduser(text)  # noqa: PTH111  # a folder may be called ~x, as nobody is
    others = [unquote_to_bytes(os.fsencode(text))] if match and "%" in text else []
    others += [_BYTE.sub(_to_byte, os.fsencode(text))] if "\\x" in text else []
    if others and not os.path.lexists(text):
        text = os.fsdecode(next(filter(os.path.lexists, others), text))
    return Path(text)


def escaped(path: str | os.PathLike[str]) -> str:
    r"""Return a path as text that a table can hold: a byte that is not UTF-8 becomes `\xff`."""
    return os.fsencode(path).decode(errors="backslashreplace")


def is_escaped(text: str) -> bool:
    """Return whether a text stands for a path that is not UTF-8."""
    return bool(_BYTE.search(os.fsencode(text))) or escaped(text) != text


def is_pattern(text: str) -> bool:
    """Return whether a text has characters of a glob pattern."""
    return bool(PATTERN.search(text))


def absolute(uri: str) -> str:
    """Return a URI that does not depend on the working folder, which differs between workers.

    It has no `..`, which behind a link is not the folder before it. Other links stay.
    """
    if not is_local(uri):
        return uri
    parts = local_path(uri).absolute().parts
    dots = max((place for place, part in enumerate(parts) if part == ".."), default=0)
    start = os.path.realpath(os.path.join(*parts[: dots + 1])) if dots else parts[0]  # noqa: PTH118
    return escaped(Path(start, *parts[dots + 1 :]))


def _to_byte(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode())


def open_filesystem(uri: str) -> tuple[Any, str]:  # fsspec has no types
    """Return the fsspec file system of a bucket URI and the path inside it."""
    # No cache of listings: other machines write to the bucket too. A `::` is part of a name here,
    # where fsspec would take it for a chain of URIs.
    first = uri.partition("::")[0]
    filesystem, _ = url_to_fs(first, use_listings_cache=False, **waits(first))
    limit_rounds(filesystem)
    return filesystem, str(filesystem._strip_protocol(uri))  # noqa: SLF001  # as url_to_fs does


def join(uri: str, *names: str) -> str:
    """Append names to a folder URI."""
    base = uri if uri.endswith("://") else uri.rstrip("/") + "/"
    return base + "/".join(name.strip("/") for name in names) if names else uri
