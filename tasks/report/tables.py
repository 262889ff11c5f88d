"""The rows of the report's tables, computed from counts and metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.report import words
from tasks.report.inputs import StageTime
from tasks.report.measured import ClassMetrics, Measured, Metrics
from tasks.report.read_stages import LabelCount

MAX_ROWS = 200  # of a table by class; the ends of the order are shown
MAX_PAIRS = 12


@dataclass(frozen=True)
class ClassRow:
    """One class: shares in [0, 1], None where unknown."""

    name: str
    before: float | None
    after: float | None
    predicted_before: int
    predicted: int
    kept_share: float | None
    precision: float | None = None
    num_images: int = 0

    @property
    def change(self) -> float | None:
        """From before to after, None unless both are known."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class KeptRow:
    """One class: how many labels were proposed for it and how many were kept."""

    name: str
    proposed: int
    kept: int

    @property
    def share(self) -> float | None:
        """Share that was kept, None if none was proposed."""
        return self.kept / self.proposed if self.proposed else None


@dataclass(frozen=True)
class ReasonRow:
    """How many labels of one source met one fate (kept, rejected or held out), and why."""

    source: str
    fate: str
    reason: str
    count: int
    share: float


@dataclass(frozen=True)
class PairRow:
    """Images of class `true` that were called `predicted`; shares are of all of class `true`."""

    true: str
    predicted: str
    count: int
    share: float
    share_before: float | None


@dataclass(frozen=True)
class TimeRow:
    """One stage."""

    stage: StageTime
    share: float
    rate: float | None
    purpose: str


def measured_rows(
    classes: Sequence[str], metrics: Metrics, kept: Mapping[str, KeptRow]
) -> list[ClassRow]:
    """Return one row per class with its recalls, from the greatest gain to the greatest loss."""
    rows = []
    for name in classes:
        first, last = _of_class(metrics.zero_shot, name), _of_class(metrics.adapted, name)
        final = last if metrics.adapted else first
        row = ClassRow(
            name=name,
            before=first.recall,
            after=last.recall,
            predicted_before=first.num_predicted,
            predicted=final.num_predicted,
            kept_share=kept[name].share if name in kept else None,
            precision=final.precision,
            num_images=final.num_images,
        )
        rows.append(row)
    return sorted(rows, key=_by_change)


def counted_rows(
    classes: Sequence[str],
    before: Mapping[str, int],
    after: Mapping[str, int],
    kept: Mapping[str, KeptRow],
) -> list[ClassRow]:
    """Return one row per class with its share of all predictions, for runs without labels.

    Args:
        classes: All names.
        before: Images that zero-shot gave each class.
        after: Images that the adapted model gives each class; empty if nothing was adapted.
        kept: What the cross-filter kept.
    """
    rows = [
        ClassRow(
            name=name,
            before=before.get(name, 0) / max(sum(before.values()), 1),
            after=after.get(name, 0) / sum(after.values()) if after else None,
            predicted_before=before.get(name, 0),
            predicted=(after or before).get(name, 0),
            kept_share=kept[name].share if name in kept else None,
        )
        for name in classes
    ]
    return sorted(rows, key=_by_change)


def ends(rows: Sequence[ClassRow], limit: int = MAX_ROWS) -> list[ClassRow]:
    """Return the rows, or the first and the last ones of a table too long to read."""
    if len(rows) <= limit:
        return list(rows)
    return [*rows[: limit // 2], *rows[-(limit // 2) :]]


def _of_class(measured: Measured | None, name: str) -> ClassMetrics:
    return (measured.per_class.get(name) if measured else None) or ClassMetrics()


def _by_change(row: ClassRow) -> tuple[float, float, str]:
    change = float("-inf") if row.change is None else row.change
    return -change, -(row.before or 0.0), row.name


def kept_rows(classes: Sequence[str], counts: Sequence[LabelCount]) -> dict[str, KeptRow]:
    """Return what was kept of each class over all sources; every class has a row.

    Labels of images that were held out are not counted: nobody decided on them.
    """
    proposed = dict.fromkeys(classes, 0)
    kept = dict.fromkeys(classes, 0)
    for row in (count for count in counts if count.decided):
        proposed[row.label] = proposed.get(row.label, 0) + row.count
        kept[row.label] = kept.get(row.label, 0) + row.count * row.kept
    return {name: KeptRow(name, proposed[name], kept[name]) for name in proposed}


def reason_rows(counts: Mapping[str, Sequence[LabelCount]]) -> list[ReasonRow]:
    """Return the fates of the labels of each source, kept first, then by falling count."""
    result = []
    for source, rows in counts.items():
        totals: Counter[tuple[str, str]] = Counter()
        for row in rows:
            totals[_fate(row), row.reason] += row.count
        ordered = sorted(totals.items(), key=lambda item: (item[0][0] != "kept", -item[1], item[0]))
        whole = max(totals.total(), 1)
        result += [ReasonRow(source, *fate, count, count / whole) for fate, count in ordered]
    return result


def _fate(row: LabelCount) -> str:
    if row.kept:
        return "kept"
    return "rejected" if row.decided else "held out"


def confused_pairs(
    confusion: np.ndarray, classes: Sequence[str], before: np.ndarray | None
) -> list[PairRow]:
    """Return the most frequent mistakes, counts of shape (true classes, predicted classes)."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    totals = np.maximum(confusion.sum(axis=1), 1)
    pairs = [divmod(int(cell), len(classes)) for cell in order]
    return [
        PairRow(
            true=classes[row],
            predicted=classes[column],
            count=int(wrong[row, column]),
            share=float(wrong[row, column] / totals[row]),
            share_before=None
            if before is None
            else float(before[row, column] / max(before[row].sum(), 1)),
        )
        for row, column in pairs
        if wrong[row, column]
    ]


def moves(before: Mapping[str, str], after: Mapping[str, str]) -> list[PairRow]:
    """Return the most frequent changes of label between two labelings of the same images."""
    totals: dict[str, int] = {}
    counts: dict[tuple[str, str], int] = {}
    for image_id, name in before.items():
        if image_id in after:
            totals[name] = totals.get(name, 0) + 1
            pair = name, after[image_id]
            counts[pair] = counts.get(pair, 0) + (pair[0] != pair[1])
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_PAIRS]
    return [
        PairRow(*pair, count=count, share=count / totals[pair[0]], share_before=None)
        for pair, count in ordered
        if count
    ]


def time_rows(stages: Sequence[StageTime]) -> list[TimeRow]:
    """Return the stages in order, each with its share of the time of all."""
    total = sum(stage.seconds for stage in stages) or 1.0
    return [
        TimeRow(
            stage=stage,
            share=stage.seconds / total,
            rate=stage.num_images / stage.seconds if stage.num_images and stage.seconds else None,
            purpose=words.STAGES[stage.name].purpose,
        )
        for stage in stages
    ]


def bottleneck(stages: Sequence[StageTime]) -> StageTime | None:
    """Return the slowest stage that this run computed; of all stages if it computed none."""
    fresh = [stage for stage in stages if not stage.resumed] or list(stages)
    return max(fresh, key=lambda stage: stage.seconds, default=None)
