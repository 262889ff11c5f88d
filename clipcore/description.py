"""`model.json`: what a folder with a model holds, in words of JSON, beside its weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clipcore.images import Preprocess

FORMAT = 1
DESCRIPTION = "model.json"
CLASSIFIER = "classifier"  # the kind of a model whose description names none


class BrokenModel(ValueError):
    """A model folder that is incomplete or of another format."""


def write_description(folder: Path, **fields: Any) -> None:
    """Write the description of a model; it comes last, so that it marks a complete folder.

    Args:
        folder: Of the model.
        fields: JSON values, `members` among them: the files of its weights.
    """
    text = json.dumps({"format": FORMAT, **fields}, indent=1, sort_keys=True)
    (folder / DESCRIPTION).write_text(text)


def read_description(folder: Path, kind: str = CLASSIFIER) -> dict[str, Any]:
    """Return the description of a model.

    Raises:
        BrokenModel: there is none, or it is of another kind or format.
    """
    description = _read(folder)
    if (found := _kind(description)) != kind:
        raise BrokenModel(f"{folder}: expected a model of the kind {kind}, got {found!r}.")
    check_members(description["members"])
    return description


def kind_of(folder: Path) -> str:
    """Return which kind of model a folder holds.

    Raises:
        BrokenModel: it holds none, or one of another format.
    """
    return _kind(_read(folder))


def check_members(names: Sequence[str]) -> None:
    """Refuse a description whose weights lie anywhere but beside it.

    Raises:
        BrokenModel: one of the names is a path.
    """
    plain = [name for name in names if name == Path(name).name and "\\" not in name]
    if paths := [name for name in names if name not in plain or name == ".."]:
        raise BrokenModel(f"expected weights beside {DESCRIPTION}, got {paths[0]!r}")


def preprocess_values(preprocess: Preprocess) -> dict[str, Any]:
    """Return how pixels are prepared as JSON values."""
    return asdict(preprocess)


def preprocess_of(values: Mapping[str, Any]) -> Preprocess:
    """Return what `preprocess_values` took apart."""
    pairs = {name: tuple(values[name]) for name in ("mean", "std")}
    return Preprocess(**{**values, **pairs})


def _kind(description: Mapping[str, Any]) -> str:
    return str(description.get("kind", CLASSIFIER))


def _read(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise BrokenModel(f"{folder}: expected a coft model, {DESCRIPTION} is missing.")
    try:
        description: dict[str, Any] = json.loads(path.read_bytes())
        version = description.get("format")
    except (ValueError, AttributeError) as error:
        raise BrokenModel(f"{path}: expected a JSON object: {error}.") from error
    if version != FORMAT:
        raise BrokenModel(
            f"{folder}: expected model format {FORMAT}, got {version!r}. "
            "It was written by another version of coft."
        )
    return description
