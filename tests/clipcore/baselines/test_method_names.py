"""Names that are known before a method is loaded."""

from clipcore.baselines.method_names import LABELLED_NAMES, NAMES
from clipcore.baselines.methods import LABELLED_METHODS, METHODS


def test_names_are_those_of_the_methods() -> None:
    assert tuple(METHODS) == NAMES
    assert tuple(LABELLED_METHODS) == LABELLED_NAMES
    assert not set(NAMES) & set(LABELLED_NAMES)
