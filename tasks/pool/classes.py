"""Class names from a file, from a list, or from the metadata of a Parquet file."""

import csv
import io
import json
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa

from tasks.annotations.class_json import names_in
from tasks.annotations.class_list import Named, Names, UncertainNames, parse
from tasks.annotations.spelling import fold, visible
from tasks.annotations.text import NotText, decode
from tasks.images.listing import one_line
from tasks.specs import InputError
from tasks.storage.files import exists, open_read
from tasks.storage.uris import redact

_MAX_FILE = 16 * 2**20  # bytes; a larger file is not a list of names


class BadClassNames(InputError):
    """The class names are missing, unreadable, too few or repeated."""


class NoClassNames(BadClassNames):
    """No class names were given, and the images have none."""


def given_classes(classes: str, column: str | None = None) -> Names:
    """Return the names in a file, or in a list split by commas if there is no such file.

    Args:
        classes: Path or URI of a file, or the list.
        column: Which column of a file has the names, where the person said so.

    Raises:
        BadClassNames: the file cannot be read, is no text, or may be read in several ways.
    """
    if "," in classes and not _is_file(classes):
        (cells,) = csv.reader(io.StringIO(classes.replace("\n", " ")), skipinitialspace=True)
        names = [name.strip() for name in cells if name.strip()]
        return Names([Named(place, name) for place, name in enumerate(names, 1)], "")
    try:
        return parse(_read_text(classes), classes, column)
    except UncertainNames as error:
        msg = f"--classes {redact(classes)}: {error}"
        raise BadClassNames(msg) from error


def numbered(names: Sequence[str]) -> list[Named]:
    """Return names with their places, counted from 1."""
    return [Named(place, name) for place, name in enumerate(names, 1)]


def check_classes(names: Sequence[Named], origin: str, unit: str = "line") -> tuple[str, ...]:
    """Return the names if there are at least two, and all of them differ.

    Args:
        names: Class names, with the place of each.
        origin: Where they come from, for the message.
        unit: What the places are.

    Raises:
        BadClassNames: no names, one name, two that only differ in letter case, spaces or Unicode
            form, or one with control characters.
    """
    if not names:
        msg = f"{origin}: expected at least two class names, got none; write one name a line"
        raise BadClassNames(msg)
    for place, name in names:
        if not visible(name):
            msg = f"{origin}: {unit} {place} has an empty name; write one, or remove it"
            raise BadClassNames(msg)
        if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in name):
            msg = f"{origin}: {unit} {place}, {name!r}, has control characters; remove them"
            raise BadClassNames(msg)
    _check_different(names, origin, unit)
    if len(names) == 1:
        msg = f"{origin}: expected at least two class names, got only {names[0].name!r}; "
        raise BadClassNames(f"{msg}add the others")
    return tuple(visible(name) for _, name in names)


def _check_different(names: Sequence[Named], origin: str, unit: str) -> None:
    same: dict[str, list[Named]] = defaultdict(list)
    for named in names:
        same[fold(named.name)].append(named)
    repeated = [group for group in same.values() if len(group) > 1]
    if repeated:
        shown = "; ".join(
            " and ".join(f"{_quoted(name)} in {unit} {place}" for place, name in group[:3])
            for group in repeated[:3]
        )
        more = f" and {len(repeated) - 3} more" if len(repeated) > 3 else ""  # noqa: PLR2004
        msg = f"{origin}: class names must differ by more than letter case, spaces and Unicode form"
        raise BadClassNames(f"{msg}, but these are the same: {shown}{more}; keep one of each")


def _quoted(name: str) -> str:
    """Return a name in quotes, so that different forms of one letter can be told apart."""
    composed = unicodedata.normalize("NFC", name)
    return repr(name) if composed == name else ascii(name)


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
    try:
        if len(data) <= _MAX_FILE:
            return decode(data)
        problem = f"more than {_MAX_FILE:,} bytes"
    except NotText as error:
        problem = str(error)
    msg = f"--classes {redact(uri)}: expected a text file with one class name a line, in UTF-8 or "
    raise BadClassNames(f"{msg}UTF-16, got {problem}, which is not text; is it the right file?")


def _names_of_feature(feature: dict[str, Any]) -> object:
    """Return the names of a ClassLabel of Hugging Face, as any of their versions writes it."""
    inner = feature.get("feature") or feature.get("sequence") or feature.get("class_label") or {}
    names = feature.get("names") or []
    if not names and inner and isinstance(inner, dict):
        return _names_of_feature(inner)
    return names_in(names) if isinstance(names, dict) else names


def names_of_schema(uri: str, schema: pa.Schema) -> list[str]:
    """Return the class names in the metadata of a Parquet file, or an empty list."""
    metadata = schema.metadata or {}
    try:
        if b"classes" in metadata:
            names = json.loads(metadata[b"classes"])
        else:
            features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})
            names = _names_of_feature(features.get("features", {}).get("label", {}))
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
