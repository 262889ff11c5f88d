"""Templates: one look, everything escaped, nothing left undefined."""

import pytest
from jinja2 import UndefinedError

from tasks.pages.html import data_uri, generate, render
from tests.tasks.read_page import Page

SUMMARY = {"labels": [], "levels": {}, "lines": {}, "detectors": {}, "num_seeds": 1}
VALUES = {
    "title": "<b>bold</b>",
    "command": "coft",
    "summary": SUMMARY,
    "figure": "",
    "head": ["<i>"],
    "rows": [],
    "gains": {},
}
TEMPLATE = "active/simulation.html.j2"


def test_a_page_has_the_common_head_and_escapes_what_it_is_given() -> None:
    page = Page(render(TEMPLATE, **VALUES))
    assert not page.all("b")
    assert "<b>bold</b>" in page.prose
    assert "max-width: 1080px" in page.text
    policies = [meta for meta in page.all("meta") if "http-equiv" in meta]
    assert [policy["content"] for policy in policies] == [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    ]


def test_a_value_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="gains"):
        render(TEMPLATE, **{name: value for name, value in VALUES.items() if name != "gains"})


def test_pieces_of_a_page_make_the_page() -> None:
    assert "".join(generate(TEMPLATE, **VALUES)) == render(TEMPLATE, **VALUES)


def test_data_uris_hold_the_bytes() -> None:
    assert data_uri("text/plain", b"coft") == "data:text/plain;base64,Y29mdA=="
