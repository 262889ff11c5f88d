"""Pages about rounds: one HTML file each, in the look of the report."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.pages import figures

STYLE = Path(figures.__file__).with_name("page.css")


def render(template: str, **values: object) -> str:
    """Return a page that needs nothing else."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = STYLE.read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **values)
