"""Digests of the inputs of a result, and the versions of the code and of the files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata

from pydantic import BaseModel

SCHEMA_VERSION = 6  # raised by hand when the meaning of a file changes


class ShardMismatch(ValueError):
    """A file or manifest with other inputs or another schema version than the reader expects."""


def code_version() -> str:
    """Return the version of the installed package, or `unknown` in a bare checkout."""
    try:
        return metadata.version("coft")
    except metadata.PackageNotFoundError:
        return "unknown"


def fingerprint(*parts: object) -> str:
    """Return 16 hex digits that are equal for equal values, on every machine and in every run.

    Args:
        *parts: Specs, mappings, lists, texts, numbers, None, and any nesting of them.
    """
    text = json.dumps(parts, default=plain, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_id(data: bytes) -> str:
    """Return what an image is called by: a digest of its file, wherever that is."""
    return hashlib.sha256(data).hexdigest()


def classes_digest(classes: Sequence[str]) -> str:
    """Return what tells one list of class names from another."""
    return fingerprint("classes", list(classes))


def plain(value: object) -> object:
    """Convert a spec, a mapping or a sequence to a value of JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return list(value)
    msg = f"a digest is made of specs, mappings, lists, texts and numbers; got {type(value)}"
    raise TypeError(msg)
