"""The class names of a state: pinned at its first stage, and added to by name alone."""

import pytest

from tasks.harmony.classes import settle_classes
from tasks.harmony.record import StateRef
from tasks.specs import InputError
from tests.worlds.harmony import stage_ref

NEW = StateRef(uri="state")
BEGUN = StateRef(uri="state", stages=(stage_ref("photo", ("cat", "dog")),))


def test_the_first_stage_takes_given_names_then_those_of_the_files_then_the_labels() -> None:
    labels = {"dog": 3, "cat": 2}
    assert settle_classes(NEW, "cat,dog,car", labels, ("dog", "cat")) == ("cat", "dog", "car")
    assert settle_classes(NEW, None, labels, ("dog", "cat")) == ("dog", "cat")
    assert settle_classes(NEW, None, labels, ()) == ("cat", "dog")


def test_a_later_stage_may_have_fewer_and_names_further_ones_itself() -> None:
    assert settle_classes(BEGUN, None, {"DOG": 4}, ("dog",)) == ("cat", "dog")
    assert settle_classes(BEGUN, "dog,car", {"car": 4}, ()) == ("cat", "dog", "car")


@pytest.mark.parametrize(
    ("before", "given", "labels", "expected"),
    [
        (NEW, "cat,dog", {"cow": 1}, "labels outside of the 2 classes: 'cow'. Correct them"),
        (BEGUN, None, {"cow": 1, "hen": 1}, "outside of the 2 classes: 'cow', 'hen'. Correct"),
        (NEW, None, {"cat": 1}, "expected at least two class names, got only 'cat'"),
        (NEW, "cat,Cat", {"cat": 1}, "must differ by more than letter case"),
    ],
)
def test_labels_and_names_that_are_no_classes_are_refused(
    before: StateRef, given: str | None, labels: dict[str, int], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        settle_classes(before, given, labels, ())
