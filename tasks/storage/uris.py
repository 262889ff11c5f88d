"""URIs: plain local paths, and those of fsspec (`s3://`, `gs://`, `memory://`)."""

import os
import re
from pathlib import Path
from typing import Any, cast

from fsspec.core import url_to_fs

_USER = re.compile(r"(://)[^/@\s]+@")
_SIGNATURE = re.compile(
    r"([?&][^=&\s]*(?:sig|signature|token|key|secret|password|credential)=)[^&\s]+", re.IGNORECASE
)


def redact(text: str) -> str:
    """Hide passwords and signatures of all URIs in a text for people or logs."""
    return _SIGNATURE.sub(r"\1***", _USER.sub(r"\1***@", text))


def is_local(uri: str) -> bool:
    """Return whether a URI is a path on this machine."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Return the path of a local URI; `::` and `#` in a name have no meaning."""
    return Path(uri.removeprefix("file://")).expanduser()


def absolute(uri: str) -> str:
    """Return a URI that does not depend on the working folder, which differs between workers."""
    return uri if not is_local(uri) else os.path.abspath(local_path(uri))  # noqa: PTH100


def open_filesystem(uri: str) -> tuple[Any, str]:  # fsspec has no types
    """Return the fsspec file system of a bucket URI and the path inside it."""
    # No cache of listings: other machines write to the bucket too.
    return cast("tuple[Any, str]", url_to_fs(uri, use_listings_cache=False))


def join(uri: str, *names: str) -> str:
    """Append names to a folder URI."""
    base = uri if uri.endswith("://") else uri.rstrip("/") + "/"
    return base + "/".join(name.strip("/") for name in names) if names else uri
