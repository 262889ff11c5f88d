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
        BadAnswers: an image has annotations of several categories, or an id refers to nothing.
    """
    try:
        names = {item["id"]: str(item["name"]) for item in content["categories"]}
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
