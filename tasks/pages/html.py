"""HTML pages from templates. A page is one file: its look and its images stand inside of it."""

import base64
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.pages import numbers

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1]),
    autoescape=True,  # class names and file names are other people's text
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(
    percent=numbers.percent,
    points=numbers.points,
    number=numbers.number,
    duration=numbers.duration,
)


def render(template: str, **values: object) -> str:
    """Return a whole page.

    Args:
        template: Its file below `tasks/`, such as `report/report.html.j2`.
        values: What the template names.
    """
    return _TEMPLATES.get_template(template).render(**values)


def generate(template: str, **values: object) -> Iterator[str]:
    """Yield a page piece by piece, for a page that holds more images than memory should."""
    return _TEMPLATES.get_template(template).generate(**values)


def data_uri(media_type: str, data: bytes) -> str:
    """Return bytes as an address that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
