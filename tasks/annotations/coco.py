"""Labels in COCO's JSON: images, categories, and annotations that join them by their ids."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.annotations.columns import make_answer
from tasks.annotations.schema import Answer, BadAnswers

_LISTS = ("images", "annotations", "categories")


def is_coco(content: Mapping[str, Any]) -> bool:
    """Return whether parsed JSON has the three lists of COCO."""
    return all(isinstance(content.get(name), list) for name in _LISTS)


def labels_of(content: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield the category of each image that has annotations; the first image is row 1.

    Raises:
        BadAnswers: an image has annotations of several categories or no file name, or an id is
            given twice or refers to nothing.
    """
    try:
        names = {item["id"]: str(item["name"]) for item in content["categories"]}
        _check_ids(content)
        found: dict[object, set[object]] = defaultdict(set)
        for annotation in content["annotations"]:
            found[annotation["image_id"]].add(annotation["category_id"])
        for row, image in enumerate(content["images"], start=1):
            categories = sorted(names[number] for number in found.get(image["id"], ()))
            if len(categories) > 1:
                msg = f"image {row}, {image['file_name']!r}: expected one category, got "
                few = ", ".join(categories[:3])
                raise BadAnswers(f"{msg}{few}; an image has one class, so keep one of them")
            if categories:
                yield make_answer({"uri": image["file_name"], "label": categories[0]}, row)
    except (KeyError, TypeError) as error:
        msg = f"expected COCO's JSON with images, annotations and categories ({error!r}); repair it"
        raise BadAnswers(msg) from error


def _check_ids(content: Mapping[str, Any]) -> None:
    """Refuse ids by which an annotation may be about several images or categories, or none."""
    known = {name: {item["id"] for item in content[name]} for name in ("images", "categories")}
    for name, ids in known.items():
        if len(ids) < len(content[name]):
            msg = f"COCO: several of the {name} have the same id; give each its own"
            raise BadAnswers(msg)
    for annotation in content["annotations"]:
        for key, name in (("image_id", "images"), ("category_id", "categories")):
            if annotation[key] not in known[name]:
                msg = (
                    f"COCO: an annotation has {key} {annotation[key]!r}, which none of the {name} "
                )
                raise BadAnswers(f"{msg}has; repair it (a number and a text are different ids)")
    if nameless := [image["id"] for image in content["images"] if not image["file_name"]]:
        msg = f"COCO: the image with id {nameless[0]!r} has no file_name; add it"
        raise BadAnswers(msg)
