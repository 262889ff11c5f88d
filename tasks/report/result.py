"""The sections on the result: headline, classes, mistakes."""

from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np

from tasks.pages import figures, numbers
from tasks.report import read_stages, tables, words
from tasks.report.evidence import Evidence, Section
from tasks.report.inputs import ReportInputs
from tasks.report.measured import Measured, Metrics
from tasks.storage.uris import redact


def headline(evidence: Evidence) -> Section:
    """Return what was done, how good it is, and whether to use it."""
    inputs, metrics = evidence.inputs, evidence.metrics
    return {
        "title": title(inputs),
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
        "calibration": _before_and_after(metrics, "calibration_error"),
        "mean_recall": _before_and_after(metrics, "mean_recall"),
    }


def title(inputs: ReportInputs) -> str:
    """Return what was done to which images; they are called by the last name of their path."""
    names = [
        name for name in PurePosixPath(redact(inputs.spec.pool.images)).parts if "*" not in name
    ]
    images = PurePosixPath(names[-1]).stem if names else "images"
    if inputs.spec.method == "zero-shot":
        return f"CLIP zero-shot on {images}"
    return f"CLIP adapted to {images}"


def sentence(inputs: ReportInputs) -> str:
    """Return in one sentence what the run did."""
    classes, name = inputs.task.classes, inputs.backbone.name
    images = numbers.number(inputs.images.num_pool)
    if inputs.spec.method == "zero-shot":
        num_images = numbers.number(inputs.images.num_pool + inputs.images.num_test)
        return (
            f"The backbone “{name}” sorted {num_images} images into {len(classes)} classes "
            "as it is; nothing was trained."
        )
    labels_used = "without a single label in training"
    if inputs.answers is not None:
        labels_used = (
            f"with the labels that people gave to {numbers.number(inputs.answers.num_labels)}"
        )
    return (
        f"The backbone “{name}” was adapted to {images} images of {len(classes)} classes, "
        f"{labels_used}."
    )


def tested_on(inputs: ReportInputs, metrics: Metrics) -> str:
    """Return which images the accuracy is of; empty when nothing was measured."""
    best = metrics.best_known
    if best is None:
        return ""
    count = numbers.number(best.num_images)
    if not metrics.transductive:
        return f"Measured on {count} test images that were never trained on."
    if inputs.spec.method == "zero-shot":
        return f"Measured on the {count} labelled images of the pool."
    return (
        f"Measured on the same {count} images that the model was adapted to (transductive), with "
        "labels that it never saw. On new images expect somewhat less."
    )


def verdict(inputs: ReportInputs, metrics: Metrics) -> tuple[str, str, str]:
    """Return (state, title, text) of what to do with the model; the state selects a colour."""
    judgement = inputs.model.verdict
    if not inputs.model.healthy:
        consequence = "It was not made a candidate" if inputs.registered else "It was not shipped"
        return "bad", "Do not use this model", f"{consequence}. {judgement}".strip()
    if metrics.gain is not None and metrics.gain < 0:
        text = "The label-free health checks passed, but the labels say that zero-shot is better."
        return "bad", "Worse than before", f"{text} {judgement}".strip()
    if inputs.spec.method == "zero-shot":
        return "plain", "Nothing was adapted", judgement or "This is the starting point to beat."
    where = "Registered." if inputs.registered else "Not registered: no name was given for it."
    reason = "Nothing that was measured speaks against this model."
    return "good", "Healthy", f"{reason} {where}"


def health(values: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Return (name, value, meaning) of every health number."""
    rows = []
    for key, value in values.items():
        quantity = words.HEALTH[key]
        text = numbers.percent(value) if quantity.is_share else numbers.number(value)
        rows.append((quantity.name, text, quantity.meaning))
    return rows


def _before_and_after(metrics: Metrics, field: str) -> tuple[float | None, float | None]:
    models = (metrics.zero_shot, metrics.adapted)
    before, after = (getattr(model, field) if model else None for model in models)
    return before, after


def classes(evidence: Evidence) -> Section:
    """Return how each class fares before and after."""
    inputs, metrics = evidence.inputs, evidence.metrics
    names = inputs.task.classes
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
    """Return which classes are taken for which, drawn and as the most frequent pairs."""
    names, metrics = evidence.inputs.task.classes, evidence.metrics
    before, after = (_matrix(model, len(names)) for model in (metrics.zero_shot, metrics.adapted))
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
