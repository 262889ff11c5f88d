"""Class names from a file, from a list, or from the metadata of a Parquet file."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import cast

import pyarrow as pa

from tasks.images.listing import one_line
from tasks.specs import InputError
from tasks.storage.files import exists, open_read
from tasks.storage.uris import redact

_HEADERS = ("class", "name", "label")
_MAX_FILE = 16 * 2**20  # bytes; a larger file is not a list of names


class BadClassNames(InputError):
    """The class names are missing, unreadable, too few or repeated."""


class NoClassNames(BadClassNames):
    """No class names were given, and the images have none."""


def given_classes(classes: str) -> list[str]:
    """Return the names in a file, or in a list split by commas if there is no such file.

    Args:
        classes: Path or URI of a text or CSV file, or the list.

    Raises:
        BadClassNames: the file cannot be read or is no text.
    """
    if "," in classes and not _is_file(classes):
        return [name.strip() for name in classes.split(",") if name.strip()]
    text = _read_text(classes)
    if classes.lower().endswith(".csv"):
        return _column_of_csv(text)
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def check_classes(names: Sequence[str], origin: str) -> tuple[str, ...]:
    """Return the names if there are at least two, and no name is repeated.

    Args:
        names: Class names.
        origin: Where they come from, for the message.

    Raises:
        BadClassNames: no names, one name, or a repeated name.
    """
    if not names:
        msg = f"{origin}: expected at least two class names, got none; write one name a line"
        raise BadClassNames(msg)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        msg = f"{origin}: class names must differ, but {list_names(repeated)} repeated; "
        raise BadClassNames(msg + "keep one of each")
    if len(names) == 1:
        msg = f"{origin}: expected at least two class names, got only {names[0]!r}; add the others"
        raise BadClassNames(msg)
    return tuple(names)


def _is_file(text: str) -> bool:
    try:
        return exists(text)
    except (OSError, ValueError):  # a list of names is too long, or odd, for a path
        return False


def _read_text(uri: str) -> str:
    try:
        with open_read(uri) as file:
            data = file.read(_MAX_FILE + 1)
    except Exception as error:  # every driver raises errors of its own
        msg = (
            f"--classes {redact(uri)}: expected a text file or names split by commas "
            f"({one_line(error)}); check the path, or give at least two names"
        )
        raise BadClassNames(msg) from error
    text = data.decode("utf-8-sig", errors="replace")
    if len(data) > _MAX_FILE or "\0" in text or "\ufffd" in text:
        msg = f"--classes {redact(uri)}: expected a UTF-8 text file with one class name a line, "
        raise BadClassNames(msg + "got something that is not text; is it an image?")
    return text


def _column_of_csv(text: str) -> list[str]:
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    position = next((header.index(name) for name in _HEADERS if name in header), None)
    body = rows if position is None else rows[1:]
    cells = [row[position or 0].strip() for row in body if len(row) > (position or 0)]
    return [cell for cell in cells if cell]


def names_of_schema(uri: str, schema: pa.Schema) -> list[str]:
    """Return the class names in the metadata of a Parquet file, or an empty list."""
    metadata = schema.metadata or {}
    try:
        if b"classes" in metadata:
            names = json.loads(metadata[b"classes"])
        else:
            features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})
            names = features.get("features", {}).get("label", {}).get("names") or []
    except (ValueError, AttributeError) as error:
        msg = f"{redact(uri)}: expected a JSON list of names under `classes` in its metadata; "
        raise BadClassNames(msg + f"got {one_line(error)}; give --classes") from error
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return cast("list[str]", names)
    msg = f"{redact(uri)}: expected a JSON list of names under `classes` in its metadata"
    raise BadClassNames(f"{msg}, got {str(names)[:80]}; give --classes")


def list_names(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names with a verb, for messages: `'cat', 'dog' and 3 more are`."""
    shown = ", ".join(repr(name) for name in names[:limit])
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"
