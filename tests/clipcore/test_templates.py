"""Names in templates."""

from clipcore.templates import in_templates


def test_a_name_takes_the_slot_and_no_other_brace_has_a_meaning() -> None:
    templates = ["a photo of a {}.", "{}", "a {x} {0} {} }{", "no slot"]
    assert in_templates("hot_dog {0.name}", templates) == [
        "a photo of a hot dog {0.name}.",
        "hot dog {0.name}",
        "a {x} {0} hot dog {0.name} }{",
        "no slot",
    ]
