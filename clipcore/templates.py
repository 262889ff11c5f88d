"""Sentences from names: templates with a slot."""

from collections.abc import Sequence

SLOT = "{}"  # where the name goes


def in_templates(name: str, templates: Sequence[str]) -> list[str]:
    """Return the sentences that templates make of a name; other braces than the slot stay.

    Args:
        name: Of a class; underscores are read as spaces.
        templates: Sentences with one slot, such as "a photo of a {}.".
    """
    spoken = name.replace("_", " ")
    return [template.replace(SLOT, spoken) for template in templates]
