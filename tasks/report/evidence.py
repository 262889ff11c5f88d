"""What several sections of a report need, read once."""

from dataclasses import dataclass

from tasks.report import read_stages, tables
from tasks.report.inputs import ReportInputs
from tasks.report.measured import Metrics, read_metrics

Section = dict[str, object]
"""What a section of the template shows, by the names that the template has for it."""


@dataclass(frozen=True)
class Evidence:
    """What several sections of a report need.

    Attributes:
        inputs: The finished files of the run.
        metrics: What was measured with labels.
        fates: Counted labels of the cross-filter by their source.
        kept: What the cross-filter kept of each class.
    """

    inputs: ReportInputs
    metrics: Metrics
    fates: dict[str, list[read_stages.LabelCount]]
    kept: dict[str, tables.KeptRow]

    @property
    def adapted(self) -> bool:
        """Whether anything was trained."""
        return self.inputs.spec.method != "zero-shot"

    @property
    def labelled(self) -> bool:
        """Whether labels told how good the models are."""
        return self.metrics.best_known is not None


def gather(inputs: ReportInputs) -> Evidence:
    """Read the metrics and count the labels of the cross-filter."""
    fates = {ref.source: read_stages.count_labels(ref) for ref in inputs.clean}
    counts = [count for rows in fates.values() for count in rows]
    kept = tables.kept_rows(inputs.task.classes, counts) if inputs.clean else {}
    return Evidence(inputs, read_accuracies(inputs), fates, kept)


def read_accuracies(inputs: ReportInputs) -> Metrics:
    """Return the metrics; a run that adapted nothing has one classifier, not two."""
    metrics = read_metrics(inputs.evaluation)
    if inputs.spec.method != "zero-shot":
        return metrics
    only = metrics.zero_shot or metrics.adapted
    return metrics.model_copy(update={"zero_shot": only, "adapted": None, "phase1": None})
