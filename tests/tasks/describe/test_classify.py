"""A classifier has to sort into the classes that captions are about."""

import pytest

from tasks.describe.classify import check_classes
from tasks.specs import InputError


def test_the_same_classes_in_another_order_are_the_same() -> None:
    check_classes(["dog", "cat"], ("cat", "dog"), "models:/pets/1")


@pytest.mark.parametrize(
    ("known", "classes", "expected"),
    [
        (["cat", "dog", "ant"], ("cat", "dog"), "only the model has 'ant'"),
        (["cat"], ("cat", "bee"), "only --classes has 'bee'"),
    ],
)
def test_other_classes_are_refused(
    known: list[str], classes: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        check_classes(known, classes, "models:/pets/1")
