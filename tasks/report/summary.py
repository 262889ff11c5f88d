"""The run in a few lines of Markdown, for a Prefect artifact or a note in the tracker."""

from tasks.report import result, tables, words
from tasks.report.evidence import measured
from tasks.report.inputs import ReportInputs
from tasks.report.measured import Metrics


def summary_markdown(inputs: ReportInputs) -> str:
    """Return the headline, the accuracies, the verdict and the slowest stage as Markdown."""
    metrics = measured(inputs)
    _, title, text = result.verdict(inputs, metrics)
    lines = [
        f"# {_plain(inputs.run_name or 'Adaptation report')}",
        _plain(result.sentence(inputs)),
        *_accuracy(inputs, metrics),
        f"**{_plain(title)}.** {_plain(text)}",
    ]
    if inputs.registered:
        version = f" (version {inputs.registered.version})" if inputs.registered.version else ""
        lines.append(f"Model: `{inputs.registered.uri}`{version}")
    if slowest := tables.bottleneck(inputs.stages):
        lines.append(f"Slowest stage: {_plain(slowest.name)}, {words.duration(slowest.seconds)}.")
    if count := inputs.pool.num_quarantined + inputs.before.num_quarantined:
        lines.append(f"{words.number(count)} files were set aside in quarantine.")
    return "\n\n".join(lines) + "\n"


def _accuracy(inputs: ReportInputs, metrics: Metrics) -> list[str]:
    if metrics.best_known is None:
        return ["No labels were given: accuracy is unknown."]
    both = (("Zero-shot", metrics.zero_shot), ("Adapted", metrics.adapted))
    rows = [f"| {name} | {words.percent(part.accuracy)} |" for name, part in both if part]
    if metrics.gain is not None:
        rows.append(f"| Change | {words.points(metrics.gain)} points |")
    return ["\n".join(["| | accuracy |", "|---|---|", *rows]), result.tested_on(inputs, metrics)]


def _plain(text: str) -> str:
    """Take their meaning from the characters of Markdown and HTML."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
