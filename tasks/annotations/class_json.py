"""Class names in JSON and YAML, as data sets and libraries write them."""

from collections.abc import Mapping
from typing import Any, cast

_LISTS = ("categories", "names", "classes", "labels", "id2label", "label2id", "class_to_idx")
_NAMES = ("name", "class_name", "label", "class", "title")


class NoNames(ValueError):
    """The content has no list of names in a form that is known."""


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
    if content and all(_is_number(value) for value in content.values()):
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
        return str(cast("str | int", value)).strip()
    msg = f"{type(value).__name__} where a name should be"
    raise NoNames(msg)
