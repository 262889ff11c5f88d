"""The class names of a state: settled at its first stage, and only added to afterwards."""

from collections.abc import Mapping, Sequence

from tasks.annotations.spelling import Names
from tasks.harmony.record import StateRef
from tasks.pool.classes import check_classes, given_classes, list_names, numbered
from tasks.specs import InputError
from tasks.storage.uris import redact


def settle_classes(
    before: StateRef, given: str | None, labels: Mapping[str, int], offered: Sequence[str]
) -> tuple[str, ...]:
    """Return the class names after a stage.

    Args:
        before: The state, whose names keep their places.
        given: `--classes`: all names at the first stage, further ones later.
        labels: Those of the stage's samples.
        offered: The names that the samples' files offer, for the first stage.

    Raises:
        InputError: a label is no class, or the names are none.
    """
    own = () if given is None else _given(given, bool(before.classes))
    if before.classes:
        known = Names(before.classes)
        classes = (*before.classes, *(name for name in own if known.find(name) is None))
    else:
        classes = own or _of_samples(labels, offered)
    names = Names(classes)
    unknown = [label for label in labels if names.find(label) is None]
    if unknown:
        what = "is" if len(unknown) == 1 else "are"
        shown = list_names(unknown).removesuffix(f" {what}")
        msg = f"labels outside of the {len(classes)} classes: {shown}"
        raise InputError(f"{msg}. Correct them, or name further classes in --classes.")
    return classes


def _given(given: str, has_more: bool) -> tuple[str, ...]:  # noqa: FBT001  # as settle_classes calls it
    found = given_classes(given).names
    origin = f"--classes {redact(given)[:80]}"
    if has_more and len(found) == 1:  # one more class is a list too
        return (found[0].name,)
    return check_classes(found, origin, "name")


def _of_samples(labels: Mapping[str, int], offered: Sequence[str]) -> tuple[str, ...]:
    origin = "the names in the files" if offered else "the labels"
    return check_classes(numbered(list(offered) or sorted(labels)), origin, "name")
