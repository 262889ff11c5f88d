"""Names of what is computed: digests of what it is made from, and the versions of the code."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata

from pydantic import BaseModel

SCHEMA_VERSION = 2  # raised by hand when the meaning of a file changes


class ShardMismatch(ValueError):
    """A file or manifest that was not made from what the reader expects, or by other code."""


def code_version() -> str:
    """Return the version of the installed package, or `unknown` in a bare checkout."""
    try:
        return metadata.version("coft")
    except metadata.PackageNotFoundError:
        return "unknown"


def fingerprint(*parts: object) -> str:
    """Digest values to 16 hex digits: equal values, equal digest, on every machine and run.

    Args:
        *parts: Specs, mappings, lists, texts, numbers, None, and any nesting of them.
    """
    text = json.dumps(parts, default=plain, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value: object) -> object:
    """Return what JSON can hold in the place of a spec, a mapping or a sequence."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return list(value)
    msg = f"a digest is made of specs, mappings, lists, texts and numbers; got {type(value)}"
    raise TypeError(msg)
