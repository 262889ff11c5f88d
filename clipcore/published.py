"""open_clip, and what it publishes, read from its files: a mistyped name waits for no import.

Models are JSON files of the installed package. Their weights stand in `open_clip/pretrained.py` as
tables of plain values, which are read as a syntax tree and not run. A test compares both with what
open_clip itself says.
"""

import ast
import functools
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

CONFIG = "open_clip_config.json"  # of a model's folder, in open_clip's `local-dir:` layout
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
QUICK_GELU = "-quickgelu"  # names the models whose weights were trained with QuickGELU
_REQUIRED = {"embed_dim", "vision_cfg", "text_cfg"}

Tags = dict[str, dict[str, Any]]


def open_clip() -> ModuleType:
    """Return the package, imported when it is first needed: with timm and torchvision, seconds.

    Where transformers is installed, open_clip would import it too, another second, for towers that
    coft does not take; so it does not find it.
    """
    hidden = "transformers" not in sys.modules
    if hidden:
        sys.modules["transformers"] = None  # type: ignore[assignment]  # as the import system says
    try:
        import open_clip as package  # noqa: PLC0415
    finally:
        if hidden:
            del sys.modules["transformers"]
    loaded: ModuleType = package
    return loaded


def model_names() -> frozenset[str]:
    """Return the names of open_clip's models."""
    files = (_folder() / "model_configs").glob("*.json")
    return frozenset(path.stem for path in files if read_json(path).keys() >= _REQUIRED)


def model_config(name: str) -> dict[str, Any] | None:
    """Return the configuration of one of open_clip's models; None if there is no such model."""
    path = _folder() / "model_configs" / f"{name}.json"
    return read_json(path) if path.is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """Return the fields of a JSON file."""
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields


def tags_of(model: str) -> Tags:
    """Return the published weights of a model: for each tag, where they are and how they differ."""
    plain = model.removesuffix(QUICK_GELU)
    own: Tags = _tables().get(model, {})
    if plain == model:
        return own
    quick = {tag: facts for tag, facts in _tables().get(plain, {}).items() if facts["quick_gelu"]}
    return quick or own


def weights_of(model: str, tag: str) -> dict[str, Any]:
    """Return what is known of published weights; nothing where there are none."""
    return tags_of(model).get(tag.lower().replace("-", "_"), {})


@functools.cache
def _tables() -> dict[str, Tags]:
    """Return the tags of every model, by the names of the models."""
    tree = ast.parse((_folder() / "pretrained.py").read_text(encoding="utf-8"))
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = _value(node.value, values)
    tables: dict[str, dict[str, dict[str, Any]]] = values["_PRETRAINED"]
    return {
        model: {
            tag: {"quick_gelu": False, "hf_hub": "", **(facts or {})} for tag, facts in tags.items()
        }
        for model, tags in tables.items()
    }


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return a constant, a named value, or the fields of a dict; None for anything else."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return names.get(node.id)
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return {_value(key, names): _value(value, names) for key, value in pairs if key}
        case ast.Call():  # `dict(tag=...)`, or a function that adds defaults to the fields of a tag
            return {field.arg: _value(field.value, names) for field in node.keywords if field.arg}
    return None


def _folder() -> Path:
    """Return the folder of the installed open_clip.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    found = find_spec("open_clip")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("expected the package open_clip_torch; install coft again")
    return Path(found.origin).parent
