"""The report as one HTML file, and its first lines as Markdown."""

import time

from tasks.pages import numbers
from tasks.pages.html import render
from tasks.refs import Ref
from tasks.report import (
    provenance,
    result,
    sentences_section,
    tables,
    training_section,
    words,
)
from tasks.report.evidence import gather, read_accuracies
from tasks.report.inputs import ReportInputs
from tasks.report.measured import Metrics
from tasks.specs import RuntimeSpec
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists, write_bytes
from tasks.storage.uris import join

FILE = "report.html"
TEMPLATE = "report/report.html.j2"
_LAYOUT = 5  # raised by hand when the same inputs should give another page


def write_report(inputs: ReportInputs, runtime: RuntimeSpec) -> Ref:
    """Write `reports/<digest>/report.html` unless equal inputs have written it before.

    Returns:
        The folder; a report has no rows.
    """
    started = time.perf_counter()
    digest = fingerprint("report", _LAYOUT, inputs)
    folder = join(runtime.workspace, "reports", digest)
    uri = join(folder, FILE)
    resumed = exists(uri)
    if not resumed:
        write_bytes(uri, html(inputs).encode())
    seconds = time.perf_counter() - started
    return Ref(uri=folder, digest=digest, rows=0, seconds=seconds, resumed=resumed)


def html(inputs: ReportInputs) -> str:
    """Return the report of a run as a page that needs no other file and no network."""
    evidence = gather(inputs)
    return render(
        TEMPLATE,
        inputs=inputs,
        evidence=evidence,
        headline=result.headline(evidence),
        classes=result.classes(evidence),
        confusions=result.confusions(evidence),
        sentences=sentences_section.sentences(evidence),
        kept=training_section.kept(evidence),
        training=training_section.training(evidence),
        maps=training_section.maps(evidence),
        times=provenance.times(evidence),
        understood=provenance.understood(evidence),
        quarantine=provenance.quarantine(evidence),
        provenance=provenance.provenance(evidence),
        words=words,
    )


def summary_markdown(inputs: ReportInputs) -> str:
    """Return the headline, the accuracies, the verdict and the slowest stage as Markdown."""
    metrics = read_accuracies(inputs)
    _, title, text = result.verdict(inputs, metrics)
    lines = [
        f"# {_escape(result.title(inputs))}",
        _escape(result.sentence(inputs)),
        *_accuracy_table(inputs, metrics),
        f"**{_escape(title)}.** {_escape(text)}",
    ]
    if inputs.registered:
        version = f" (version {inputs.registered.version})" if inputs.registered.version else ""
        lines.append(f"Model: `{inputs.registered.uri}`{version}")
    if slowest := tables.bottleneck(inputs.stages):
        lines.append(f"Slowest stage: {slowest.name}, {numbers.duration(slowest.seconds)}.")
    if count := inputs.images.num_quarantined + inputs.before.num_quarantined:
        lines.append(f"{numbers.number(count)} files were set aside in quarantine.")
    return "\n\n".join(lines) + "\n"


def _accuracy_table(inputs: ReportInputs, metrics: Metrics) -> list[str]:
    if metrics.best_known is None:
        return ["No labels were given: accuracy is unknown."]
    models = (("Zero-shot", metrics.zero_shot), ("Adapted", metrics.adapted))
    rows = [f"| {name} | {numbers.percent(model.accuracy)} |" for name, model in models if model]
    if metrics.gain is not None:
        rows.append(f"| Change | {numbers.points(metrics.gain)} points |")
    return ["\n".join(["| | accuracy |", "|---|---|", *rows]), result.tested_on(inputs, metrics)]


def _escape(text: str) -> str:
    """Return a text on one line in which no character has a meaning in Markdown or HTML."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
