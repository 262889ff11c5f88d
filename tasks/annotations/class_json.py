"""Class names in JSON, YAML and Python, as data sets and libraries write them."""

import ast
import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import yaml

_LISTS = ("categories", "names", "classes", "labels", "id2label", "label2id", "class_to_idx")
_YAML = (".yaml", ".yml")
_NAMES = ("name", "class_name", "label", "class", "title")


class NoNames(ValueError):
    """The content has no list of names in a form that is known."""


def read(text: str, suffix: str) -> object:
    """Return the content of a text in JSON, JSON Lines, YAML, or of lists and the like in Python.

    Args:
        text: Of a file.
        suffix: Of its name; YAML counts only where it says so.

    Raises:
        ValueError: it is none of these, or one key has two values.
    """
    if suffix in _YAML and text.lstrip()[:1] not in ("[", "{"):
        return yaml.load(text, _AsWritten)  # noqa: S506  # texts alone, no objects
    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except ValueError as error:
        lines = [line for line in text.split("\n") if line.strip()]
        try:
            if len(lines) > 1:
                return [json.loads(line, object_pairs_hook=without_repeats) for line in lines]
        except ValueError:
            pass
        if isinstance(error, Repeated):
            raise
        if suffix in _YAML:
            return yaml.load(text, _AsWritten)  # noqa: S506
        return _python(text, error)


def _python(text: str, problem: ValueError) -> object:
    try:
        content = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError) as error:
        raise problem from error
    return list(content) if isinstance(content, tuple) else content


def without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON.

    Raises:
        Repeated: one key has two values, of which readers take the last.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        msg = f"the key {repeated[:40]!r} stands there twice"
        raise Repeated(msg)
    return found


class Repeated(ValueError):
    """An object has a key twice."""


class _AsWritten(yaml.BaseLoader):  # type: ignore[misc]  # untyped upstream
    """YAML whose values are the texts that stand there: `no` is no truth value, `010` not 8."""

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002  # as in the class above
    ) -> dict[Hashable, Any]:
        """Return a mapping; refuse one with a key that stands there twice."""
        keys = [key.value for key, _ in node.value]
        if len(set(map(str, keys))) < len(keys):
            raise yaml.constructor.ConstructorError(problem="a key stands there twice")
        return dict(super().construct_mapping(node, deep))


def names_in(content: object) -> list[str]:
    """Return the class names of parsed JSON or YAML, in the order of their numbers if any.

    Known are a list of names or of objects with a `name`, names by number (`id2label`), numbers by
    name (`class_to_idx`), and objects that hold one of these, such as COCO's `categories`.

    Raises:
        NoNames: it is none of these.
    """
    if isinstance(content, list):
        return _of_list(content)
    if isinstance(content, dict):
        for key in _LISTS:
            if isinstance(content.get(key), list | dict):
                return names_in(content[key])
        return _of_mapping(content)
    msg = f"a single {type(content).__name__}"
    raise NoNames(msg)


def _of_list(content: list[Any]) -> list[str]:
    if all(isinstance(item, dict) for item in content):
        key = next((key for key in _NAMES if all(key in item for item in content)), None)
        if key is not None:
            numbered = all(_is_number(item.get("id")) for item in content)
            rows = sorted(content, key=lambda item: item["id"]) if numbered else content
            return [_text(item[key]) for item in rows]
    return [_text(item) for item in content]


def _of_mapping(content: Mapping[Any, Any]) -> list[str]:
    by_name = bool(content) and all(_is_number(value) for value in content.values())
    if by_name and all(_is_number(key) and int(key) != int(v) for key, v in content.items()):
        msg = "numbers by numbers"
        raise NoNames(msg)
    if by_name:
        if len({int(value) for value in content.values()}) < len(content):
            msg = "the same number for several names"
            raise NoNames(msg)
        by_number = sorted(content.items(), key=lambda item: int(item[1]))
        return [_text(name) for name, _ in by_number]
    if content and all(_is_number(key) for key in content):
        by_number = sorted(content.items(), key=lambda item: int(item[0]))
        return [_text(value[-1] if isinstance(value, list) else value) for _, value in by_number]
    msg = f"an object with {', '.join(map(str, list(content)[:5]))[:80] or 'nothing in it'}"
    raise NoNames(msg)


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and str(value).isdecimal()


def _text(value: object) -> str:
    if isinstance(value, str) or _is_number(value):
        if text := str(cast("str | int", value)).strip():
            return text
        msg = "an empty name"
        raise NoNames(msg)
    msg = f"{type(value).__name__} where a name should be"
    raise NoNames(msg)
