"""Sections on the result: the headline, the classes, the mistakes."""

from collections.abc import Mapping

import numpy as np

from tasks.pages import figures
from tasks.report import read_stages, tables, words
from tasks.report.evidence import Evidence, Section
from tasks.report.inputs import ReportInputs
from tasks.report.measured import Measured, Metrics


def headline(evidence: Evidence) -> Section:
    """Say what was done, how good it is, and whether to use it."""
    inputs, metrics = evidence.inputs, evidence.metrics
    return {
        "title": inputs.run_name or "Adaptation report",
        "sentence": sentence(inputs),
        "before": metrics.zero_shot,
        "after": metrics.adapted,
        "halfway": metrics.phase1,
        "gain": metrics.gain,
        "tested_on": tested_on(inputs, metrics),
        "verdict": verdict(inputs, metrics),
        "health": health(inputs.model.health),
        "model": inputs.model,
        "registered": inputs.registered,
        "calibration": _pairs_of(metrics, "calibration_error"),
        "mean_recall": _pairs_of(metrics, "mean_recall"),
    }


def sentence(inputs: ReportInputs) -> str:
    """Say in one sentence what the run did."""
    pool, name = inputs.pool, inputs.backbone.name
    images = words.number(pool.num_pool)
    if inputs.spec.method == "zero-shot":
        seen = words.number(pool.num_pool + pool.num_test)
        return (
            f"The backbone “{name}” sorted {seen} images into {len(pool.classes)} classes "
            "as it is; nothing was trained."
        )
    help_of = "without a single label in training"
    if inputs.answers is not None:
        help_of = f"with the labels that people gave to {words.number(inputs.answers.num_labels)}"
    return (
        f"The backbone “{name}” was adapted to {images} images of {len(pool.classes)} classes, "
        f"{help_of}."
    )


def tested_on(inputs: ReportInputs, metrics: Metrics) -> str:
    """Say which images the accuracy is of, empty when nothing was measured."""
    best = metrics.best_known
    if best is None:
        return ""
    count = words.number(best.num_images)
    if not metrics.transductive:
        return f"Measured on {count} test images that were never trained on."
    if inputs.spec.method == "zero-shot":
        return f"Measured on the {count} labelled images of the pool."
    return (
        f"Measured on the same {count} images that the model was adapted to (transductive), with "
        "labels that it never saw. On new images expect somewhat less."
    )


def verdict(inputs: ReportInputs, metrics: Metrics) -> tuple[str, str, str]:
    """Return (state, title, text) of what to do with the model; states name a colour."""
    said = inputs.model.verdict
    if not inputs.model.healthy:
        kept = "It was not made a candidate" if inputs.registered else "It was not shipped"
        return "bad", "Do not use this model", f"{kept}. {said}".strip()
    if metrics.gain is not None and metrics.gain < 0:
        text = "The label-free health checks passed, but the labels say that zero-shot is better."
        return "bad", "Worse than before", f"{text} {said}".strip()
    if inputs.spec.method == "zero-shot":
        return "plain", "Nothing was adapted", said or "This is the starting point to beat."
    where = "Registered." if inputs.registered else "Not registered: no name was given for it."
    return "good", "Healthy", f"{said} {where}".strip()


def health(values: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Return (name, value, meaning) of every health number."""
    rows = []
    for key, value in values.items():
        name, meaning = words.quantity(key)
        share = words.is_share(key) and 0 <= value <= 1
        rows.append((name, words.percent(value) if share else words.number(value), meaning))
    return rows


def _pairs_of(metrics: Metrics, field: str) -> tuple[float | None, float | None]:
    both = (metrics.zero_shot, metrics.adapted)
    first, last = (getattr(part, field) if part else None for part in both)
    return first, last


def classes(evidence: Evidence) -> Section:
    """Tell how each class fared."""
    inputs, metrics = evidence.inputs, evidence.metrics
    names = inputs.pool.classes
    if evidence.labelled:
        rows = tables.measured_rows(names, metrics, evidence.kept)
    else:
        before = read_stages.count_predicted(inputs.zero_shot)
        after = read_stages.count_predicted(inputs.predictions) if evidence.adapted else {}
        rows = tables.counted_rows(names, before, after, evidence.kept)
    return {
        "rows": tables.ends(rows),
        "total": len(rows),
        "never": [row.name for row in rows if row.predicted == 0],
        "top": max((share for row in rows for share in (row.before, row.after) if share), default=1)
        if not evidence.labelled
        else 1.0,
    }


def confusions(evidence: Evidence) -> Section:
    """Show which classes are taken for which."""
    names, metrics = evidence.inputs.pool.classes, evidence.metrics
    before, after = (_matrix(part, len(names)) for part in (metrics.zero_shot, metrics.adapted))
    last = before if after is None else after
    titled = (("Zero-shot", before), ("Adapted", after))
    return {
        "figures": [
            (title, figures.confusion(counts, names))
            for title, counts in titled
            if counts is not None
        ],
        "wide": len(names) > figures.MAX_CELL_NUMBERS,
        "unnamed": len(names) > figures.MAX_TICK_LABELS,
        "pairs": []
        if last is None
        else tables.confused_pairs(last, names, before if after is not None else None),
    }


def _matrix(measured: Measured | None, num_classes: int) -> np.ndarray | None:
    counts = np.asarray(measured.confusion if measured else [], dtype=np.int64)
    return counts if counts.shape == (num_classes, num_classes) else None
