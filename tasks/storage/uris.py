"""Where a file is: a bare local path, or anything that fsspec knows (`s3://`, `gs://`, `memory://`)."""

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
    """Hide passwords and signatures of every URI in a text that a person or a log will see."""
    return _SIGNATURE.sub(r"\1***", _USER.sub(r"\1***@", text))


def is_local(uri: str) -> bool:
    """Say whether a URI is a path on this machine."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Return the path of a local URI; a name with `::` or `#` in it is taken as it stands."""
    return Path(uri.removeprefix("file://")).expanduser()


def absolute(uri: str) -> str:
    """Return a URI that means the same file in a worker with another working folder."""
    return uri if not is_local(uri) else os.path.abspath(local_path(uri))  # noqa: PTH100


def open_filesystem(uri: str) -> tuple[Any, str]:  # fsspec has no types
    """Return the fsspec file system of a bucket URI and the path inside it."""
    # Other machines write here too, so a listing from a minute ago is not the truth.
    return cast("tuple[Any, str]", url_to_fs(uri, use_listings_cache=False))


def join(uri: str, *names: str) -> str:
    """Append names to a folder URI."""
    base = uri if uri.endswith("://") else uri.rstrip("/") + "/"
    return base + "/".join(name.strip("/") for name in names) if names else uri
