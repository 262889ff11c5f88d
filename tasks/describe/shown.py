"""The images that a page of captions shows: where two opinions differ, and the surest of each."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import pyarrow.compute as pc

from tasks.describe.captions import CAPTIONS
from tasks.describe.refs import CaptionsRef
from tasks.pages.pictures import read_pictures, square
from tasks.pool.shards import ID, read_beside
from tasks.refs import ImagesRef, LabelsRef, PredictionsRef
from tasks.storage.manifest import iter_tables

MOST_DIFFERING = 48
MOST_CLASSES = 24
OF_A_CLASS = 2
MOST_PAIRS = 8
OF_A_PAIR = 6
_SIDE = 112  # pixels, both ways

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """An image with what is said of it: the columns of `CAPTIONS`."""

    image: str
    row: Row


@dataclass(frozen=True)
class Pair:
    """Two classes that are mixed up, in how many images, and some of these.

    Attributes:
        classes: Their names.
        count: Images.
        pictures: Some, each with the probability of both classes after its caption.
    """

    classes: tuple[str, str]
    count: int
    pictures: tuple[tuple[Picture, float, float], ...]


@dataclass(frozen=True)
class Shown:
    """All images of a page."""

    differing: tuple[Picture, ...]
    surest: tuple[Picture, ...]
    pairs: tuple[Pair, ...]


def choose(
    captions: CaptionsRef,
    classified: LabelsRef | PredictionsRef,
    images: ImagesRef,
    classes: tuple[str, ...],
    *,
    confused: bool,
    max_pixels: int,
) -> Shown:
    """Return the images of a page; each is read once, and cut to a square."""
    differing = nlargest(MOST_DIFFERING, _rows(captions, differs=True), key=_both_sure)
    surest = _surest(captions, classes)
    pairs = _pairs(captions, _disputed(classified, images)) if confused else []
    rows = [*differing, *surest, *(row for _, _, own in pairs for row in own)]
    pictures = read_pictures([row["uri"] for row in rows], square(_SIDE), max_pixels=max_pixels)
    return Shown(
        _with(pictures, differing),
        _with(pictures, surest),
        tuple(
            Pair(
                names,
                count,
                tuple(
                    (picture, *(picture.row["probabilities"][classes.index(k)] for k in names))
                    for picture in _with(pictures, own)
                ),
            )
            for names, count, own in pairs
        ),
    )


def _with(pictures: Mapping[str, str], rows: Sequence[Row]) -> tuple[Picture, ...]:
    return tuple(Picture(pictures[row["uri"]], row) for row in rows if row["uri"] in pictures)


def _rows(captions: CaptionsRef, *, differs: bool) -> Iterator[Row]:
    for table in iter_tables(captions.uri, CAPTIONS.names):
        yield from table.filter(pc.equal(table["differs"], differs)).to_pylist()


def _both_sure(row: Row) -> float:
    """Return how sure both opinions are together: of these, one is surely wrong."""
    return float(row["confidence"] * (row["classifier_confidence"] or 0.0))


def _surest(captions: CaptionsRef, classes: Sequence[str]) -> list[Row]:
    """Return the surest captions of each class on which both agree."""
    own: dict[str, list[Row]] = {name: [] for name in classes[:MOST_CLASSES]}
    for row in _rows(captions, differs=False):
        if row["label"] in own:
            rows = [*own[row["label"]], row]
            own[row["label"]] = nlargest(OF_A_CLASS, rows, key=lambda one: one["confidence"])
    return [row for best in own.values() for row in best]


def _disputed(
    classified: LabelsRef | PredictionsRef, images: ImagesRef
) -> dict[str, tuple[str, str]] | None:
    """Return the two classes between which the networks of a classifier differ, by image id.

    None where it has but one.
    """
    if isinstance(classified, LabelsRef):
        return None
    found = {}
    for table, _ in read_beside(images, classified, [ID, "member_labels"]):
        for row in table.to_pylist():
            names = sorted(set(row["member_labels"]))
            if len(names) > 1:
                found[row[ID]] = (names[0], names[1])
    return found


def _pairs(
    captions: CaptionsRef, disputed: Mapping[str, tuple[str, str]] | None
) -> list[tuple[tuple[str, str], int, list[Row]]]:
    """Return the pairs of classes that are mixed up most: by two networks, or by both opinions."""
    counts, rows = Counter[tuple[str, str]](), dict[tuple[str, str], list[Row]]()
    for table in iter_tables(captions.uri, CAPTIONS.names):
        for row in table.to_pylist():
            pair = _pair_of(row) if disputed is None else disputed.get(row[ID])
            if pair is not None:
                counts[pair] += 1
                own = rows.setdefault(pair, [])
                if len(own) < OF_A_PAIR:
                    own.append(row)
    return [(pair, count, rows[pair]) for pair, count in counts.most_common(MOST_PAIRS)]


def _pair_of(row: Row) -> tuple[str, str] | None:
    if not row["differs"] or row["classifier_label"] is None:
        return None
    first, second = sorted((row["label"], row["classifier_label"]))
    return first, second
