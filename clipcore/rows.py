"""Rows of a request to a served model: where the image of each is, and what is said of it.

A row has `image`: the bytes of an image file, or a text: their base64, or a data URI. Or it has
`path` or `url`, which are refused until whoever serves the model has named a folder or hosts. The
column decides, not the content: the base64 of a JPEG starts with "/", as a path does.
"""

import base64
import binascii
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import numpy as np

from clipcore.image_files import MAX_BYTES, MAX_PIXELS, BadImage
from clipcore.images import Preprocess, read_pixels

INPUTS = ("image", "path", "url")
COLUMNS = ("label", "score", "probabilities", "error")
IMAGE_ROOT, IMAGE_HOSTS = "COFT_IMAGE_ROOT", "COFT_IMAGE_HOSTS"  # environment variables

_PATIENCE = 10.0  # seconds for a host to send an image
_CHUNK = 1 << 16
_NOTHING = (None, "", "None", b"")  # the third is what MLflow makes of null in some requests
_PORTS = {"http": 80, "https": 443}

BATCH = 64  # rows of one forward pass, so that a large request does not need large memory

Row = Mapping[str, object]


@runtime_checkable
class Answering(Protocol):
    """A model that answers rows of requests.

    Attributes:
        inputs: Columns of a request.
    """

    inputs: tuple[str, ...]

    def read(self, row: Row, allowed: "Allowed") -> Any:
        """Return what the model needs of a row, or as a text why there is nothing."""

    def find(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return what the model says of each of what `read` returned."""

    def say(self, found: Any, top_k: int) -> dict[str, object]:
        """Return the answer to a row: of what `find` returned, or of a text of `read`."""


class BadRow(ValueError):
    """A row that names no image file that may be read."""


class BadRequest(ValueError):
    """A request that cannot be answered; the message says what was expected."""


@dataclass(frozen=True)
class Allowed:
    """What `path` and `url` may name; by default nothing.

    Attributes:
        root: The folder of `path`; a path that is not absolute begins there.
        hosts: Of `url`, in lower case: `host` with the usual port, or `host:port`.
    """

    root: Path | None = None
    hosts: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls) -> "Allowed":
        """Return what the two variables name; hosts are split by commas."""
        root, hosts = os.environ.get(IMAGE_ROOT), os.environ.get(IMAGE_HOSTS, "")
        named = (host.strip().lower() for host in hosts.split(","))
        return cls(Path(root) if root else None, frozenset(host for host in named if host))


def read_row(row: Row, preprocess: Preprocess, allowed: Allowed) -> np.ndarray | str:
    """Return the pixels of a row as uint8 of shape (size, size, 3), or why there are none."""
    try:
        return read_pixels(image_file(row, allowed), preprocess, max_pixels=MAX_PIXELS)
    except (BadImage, BadRow) as error:
        return str(error)


def image_file(row: Row, allowed: Allowed) -> bytes:
    """Return the image file of a row: of `image`, else of `path`, else of `url`.

    Raises:
        BadRow: it has none, one that is too large, or one that may not be read.
    """
    image, path, url = (row.get(name) for name in INPUTS)
    if isinstance(image, str | bytes | bytearray | memoryview) and image not in _NOTHING:
        return _limited(_from_text(image) if isinstance(image, str) else _from_bytes(bytes(image)))
    if isinstance(path, str) and path not in _NOTHING:
        return _from_disk(path, allowed.root)
    if isinstance(url, str) and url not in _NOTHING:
        return _from_host(url, allowed.hosts)
    msg = (
        "expected an image file in column `image` (bytes; in JSON base64 or a data URI), or its"
        " name in `path` or `url`, got none"
    )
    raise BadRow(msg)


def check_columns(names: Iterable[str], inputs: Sequence[str] = INPUTS) -> list[str]:
    """Return those of the names that are columns of a request.

    Args:
        names: Of columns.
        inputs: Those that a model knows.

    Raises:
        BadRequest: none is.
    """
    there = set(names)  # once: they may be an iterator
    known = [name for name in inputs if name in there]
    if not known:
        quoted = [f"`{name}`" for name in inputs]
        listed = f"{', '.join(quoted[:-1])} or {quoted[-1]}"
        raise BadRequest(f"expected a column {listed}, got none of them")
    return known


def check_rows(answers: Sequence[Mapping[str, object]]) -> None:
    """Refuse a request of which no row has a usable image.

    Raises:
        BadRequest: has the number and the reason of the first row.
    """
    if answers and all(answer["error"] for answer in answers):
        raise BadRequest(f"row 0: {answers[0]['error']}")


def check_top_k(value: object) -> int:
    """Return how many classes an answer names; 0 is all of them.

    Raises:
        BadRequest: it is no such number.
    """
    try:
        top_k = int(str(value))
    except ValueError:
        top_k = -1
    if top_k < 0:
        raise BadRequest(f"expected top_k of 0 (all classes) or more, got {value!r}")
    return top_k


def said(found: np.ndarray | str, classes: Sequence[str], top_k: int) -> dict[str, object]:
    """Return the answer to a row.

    Args:
        found: The class probabilities, or why there are none.
        classes: Their names.
        top_k: How many of them an answer names; 0 for all.
    """
    if isinstance(found, str):
        return dict.fromkeys(COLUMNS) | {"error": found}
    order = np.argsort(-found, kind="stable")[: top_k or len(classes)]
    return {
        "label": classes[order[0]],
        "score": float(found[order[0]]),
        "probabilities": {classes[index]: float(found[index]) for index in order},
        "error": None,
    }


def answered(model: Answering, rows: Sequence[Row], top_k: int) -> list[dict[str, object]]:
    """Return the answer to each row of a request.

    Raises:
        BadRequest: none of them can be answered.
    """
    allowed = Allowed.from_environment()
    answers: list[dict[str, object]] = []
    for start in range(0, len(rows), BATCH):
        read = [model.read(row, allowed) for row in rows[start : start + BATCH]]
        good = [one for one in read if not isinstance(one, str)]
        found = iter(model.find(good) if good else ())
        answers += [model.say(one if isinstance(one, str) else next(found), top_k) for one in read]
    check_rows(answers)
    return answers


# --- where the image file of a row is -------------------------------------------------------------


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise BadRow(f"expected an image file of at most {MAX_BYTES} bytes, got {len(data)}")
    return data


def _from_bytes(data: bytes) -> bytes:
    """Decode base64 that comes as bytes, as from a column of a Parquet file.

    No image file consists of base64 characters alone, so other values are returned as they are.
    """
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return data


def _from_text(text: str) -> bytes:
    """Decode base64, whose lines may be broken, or a data URI."""
    is_uri = text[:5].lower() == "data:" and "," in text
    head, comma, body = text.partition(",") if is_uri else ("", "", text)
    if comma and not head.lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        encoded = unquote_to_bytes(body) if comma else body.encode()
        return base64.b64decode(b"".join(encoded.split()), validate=True)
    except ValueError as error:
        msg = (
            "column `image` holds a text that is neither base64 nor a data URI; file names go to"
            " `path`"
        )
        raise BadRow(msg) from error


def _from_disk(name: str, root: Path | None) -> bytes:
    """Read a regular file of limited size; reading a device or a pipe would never end."""
    if root is None:
        msg = f"column `path` is off; whoever serves the model names a folder in {IMAGE_ROOT}"
        raise BadRow(msg)
    try:
        root = root.resolve()
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise BadRow(f"column `path` may only name files below {IMAGE_ROOT}")
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            return path.read_bytes()
    except (OSError, ValueError) as error:  # the latter: a character that no path has
        if isinstance(error, BadRow):
            raise
        raise BadRow(f"cannot read `path`: {getattr(error, 'strerror', error)}") from error
    msg = f"expected `path` to be a file of at most {MAX_BYTES} bytes below {IMAGE_ROOT}"
    raise BadRow(msg)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow nobody to a host that was not named."""

    def redirect_request(self, *_: Any) -> None:
        """Return no request, which makes an error of the answer."""


def _from_host(url: str, hosts: frozenset[str]) -> bytes:
    """Fetch from a named host, within a time and a size; the URL is told to nobody."""
    if not hosts:
        msg = f"column `url` is off; whoever serves the model names hosts in {IMAGE_HOSTS}"
        raise BadRow(msg)
    parts = _checked(url, hosts)
    try:
        with urllib.request.build_opener(_NoRedirect).open(
            parts.geturl(), timeout=_PATIENCE
        ) as answer:
            return _limited(_received(answer))
    except urllib.error.HTTPError as error:
        error.close()
        raise BadRow(f"cannot fetch `url`: the host answers {error.code}") from error
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, BadRow):
            raise
        reason = getattr(error, "reason", None) or type(error).__name__
        raise BadRow(f"cannot fetch `url`: {reason}") from error


def _checked(url: str, hosts: frozenset[str]) -> SplitResult:
    """Return the parts of a URL that may be fetched."""
    try:
        parts = urlsplit(url)
        usual = _PORTS.get(parts.scheme)
        port = parts.port or usual
    except ValueError as error:
        raise BadRow("expected `url` to be one of http or https") from error
    host = (parts.hostname or "").lower()
    if usual is None or not host or "@" in parts.netloc:
        raise BadRow("expected `url` to be one of http or https, without a user")
    if f"{host}:{port}" not in hosts and not (port == usual and host in hosts):
        raise BadRow(f"column `url` may only name the hosts in {IMAGE_HOSTS}")
    return parts


def _received(answer: Any) -> bytes:
    """Read an answer until it ends, is too large, or takes too long."""
    deadline = time.monotonic() + _PATIENCE
    data = bytearray()
    while chunk := answer.read1(_CHUNK):
        data += chunk
        if len(data) > MAX_BYTES:
            break
        if time.monotonic() > deadline:
            raise BadRow(f"cannot fetch `url`: it takes over {_PATIENCE:.0f} seconds")
    return bytes(data)
