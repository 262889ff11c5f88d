"""A few images per class, small enough to stand in the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.pages import numbers
from tasks.pages.pictures import read_pictures, square
from tasks.report import read_stages, words
from tasks.report.inputs import ReportInputs
from tasks.report.read_stages import Example
from tasks.report.tables import KeptRow

MAX_THUMBNAILS = 120
MAX_CLASSES = 30
_MAX_PER_STRIP = 6
_MIN_PER_STRIP = 2
DENSE = 3  # thumbnails a strip, at most, so that two classes fit beside each other
_SIDE = 88  # pixels, both ways


@dataclass(frozen=True)
class Thumbnail:
    """A picture with its caption; `truth` and `right` are None without a true label."""

    image: str
    alt: str
    confidence: str
    gap: str
    truth: str | None
    right: bool | None


@dataclass(frozen=True)
class Strip:
    """Thumbnails of one class and one fate."""

    label: str
    kept: tuple[Thumbnail, ...]
    rejected: tuple[Thumbnail, ...]


def clean_gallery(
    inputs: ReportInputs, kept: Mapping[str, KeptRow], *, max_pixels: int
) -> list[Strip]:
    """Return, per class, the most confident labels that were kept and that were rejected."""
    classes = inputs.task.classes
    limit = per_strip(len(classes))
    chosen = choose_classes(classes, {name: row.share or 0.0 for name, row in kept.items()})
    confident = [row for ref in inputs.clean for row in read_stages.pick_surest(ref, limit)]
    confident.sort(key=lambda row: (-row.confidence, row.image_id))
    return _strips(inputs, chosen, _first_of_each(confident, chosen, limit), max_pixels)


def zero_shot_gallery(inputs: ReportInputs, *, max_pixels: int) -> list[Strip]:
    """Return, per class, the most confident labels (kept) and the least (rejected)."""
    labels, classes = inputs.zero_shot, inputs.task.classes
    limit = per_strip(len(classes))
    chosen = choose_classes(classes, {})
    sure = [replace(row, kept=True) for row in read_stages.pick_surest(labels, limit)]
    unsure = [replace(row, kept=False) for row in read_stages.pick_least_sure(labels, limit)]
    sure.sort(key=lambda row: (-row.confidence, row.image_id))
    unsure.sort(key=lambda row: (row.confidence, row.image_id))
    return _strips(inputs, chosen, _first_of_each(sure + unsure, chosen, limit), max_pixels)


def choose_classes(classes: Sequence[str], shares: Mapping[str, float]) -> list[str]:
    """Return at most `MAX_CLASSES` classes, evenly from the least kept to the most kept."""
    if len(classes) <= MAX_CLASSES:
        return list(classes)
    ranked = sorted(classes, key=lambda name: (shares.get(name, -1.0), name))
    step = (len(ranked) - 1) / (MAX_CLASSES - 1)
    return [ranked[round(i * step)] for i in range(MAX_CLASSES)]


def per_strip(num_classes: int) -> int:
    """Return how many thumbnails each class and fate may have, `MAX_THUMBNAILS` in all."""
    fair = MAX_THUMBNAILS // (2 * min(max(num_classes, 1), MAX_CLASSES))
    return max(_MIN_PER_STRIP, min(_MAX_PER_STRIP, fair))


def _first_of_each(rows: Sequence[Example], chosen: Sequence[str], limit: int) -> list[Example]:
    """Keep the first `limit` images of each class and fate, none twice in a strip."""
    taken: dict[tuple[str, bool], set[str]] = {}
    result = []
    for row in rows:
        own = taken.setdefault((row.label, row.kept), set())
        if row.label in chosen and row.image_id not in own and len(own) < limit:
            own.add(row.image_id)
            result.append(row)
    return result


def _strips(
    inputs: ReportInputs, chosen: Sequence[str], rows: Sequence[Example], max_pixels: int
) -> list[Strip]:
    located = read_stages.locate(inputs.images, inputs.task, rows)
    pictures = read_pictures([row.uri for row in located], square(_SIDE), max_pixels=max_pixels)
    shown: dict[tuple[str, bool], list[Thumbnail]] = {}
    for row in located:
        if picture := pictures.get(row.uri):
            shown.setdefault((row.label, row.kept), []).append(_caption(row, picture))
    return [
        Strip(label, tuple(shown.get((label, True), ())), tuple(shown.get((label, False), ())))
        for label in chosen
    ]


def _caption(row: Example, picture: str) -> Thumbnail:
    right = None if row.truth is None else row.truth == row.label
    truth = "" if row.truth is None else f", in truth {row.truth}"
    return Thumbnail(
        image=picture,
        alt=f"labelled {row.label} by {words.source(row.source)}{truth}",
        confidence=numbers.percent(row.confidence, 0),
        gap="" if row.gap is None else numbers.number(row.gap),
        truth=row.truth,
        right=right,
    )
