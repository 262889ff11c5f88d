"""The report as one HTML file: sections in, text out. Everything is escaped by the template."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.report import provenance, result, training_section, words
from tasks.report.evidence import gather
from tasks.report.inputs import ReportInputs

TEMPLATE = "report.html.j2"


def render(inputs: ReportInputs) -> str:
    """Return the whole report of a run as HTML that needs no other file and no network."""
    evidence = gather(inputs)
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            inputs=inputs,
            evidence=evidence,
            headline=result.headline(evidence),
            classes=result.classes(evidence),
            confusions=result.confusions(evidence),
            kept=training_section.kept(evidence),
            training=training_section.training(evidence),
            maps=training_section.maps(evidence),
            times=provenance.times(evidence),
            quarantine=provenance.quarantine(evidence),
            provenance=provenance.provenance(evidence),
            glossary=words.GLOSSARY,
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(__file__).parents[1] / "pages"]),
        autoescape=True,  # class names and file names are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=words.percent,
        points=words.points,
        number=words.number,
        duration=words.duration,
        reason=words.reason,
        source=words.source,
    )
    return environment
