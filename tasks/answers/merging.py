"""Merge answers: the latest of each annotator counts, and the most votes decide.

The latest answer is the one with the later time when both have one, else the one that was imported
later, else the one further down in its file. Skips never outvote an answer. When two answers
share the most votes, the image is an open conflict and is not used; asking again settles it. An
answer that was taken back is no vote.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from tasks.annotations.schema import NONE, SKIP, UNDONE
from tasks.answers.schema import MERGED

_COLUMNS = ["image_id", "annotator", "kind", "label", "answered_at"]


class Vote(NamedTuple):
    """The answer of one annotator about one image."""

    kind: str
    label: str | None
    answered_at: datetime | None

    @property
    def text(self) -> str:
        return {"skip": SKIP, "none": NONE}.get(self.kind, self.label or "")

    @property
    def counts(self) -> bool:
        """Say whether it was not taken back."""
        return self.kind != UNDONE


Votes = dict[tuple[str, str], Vote]
"""By (image_id, annotator)."""


def add_votes(votes: Votes, table: pa.Table) -> dict[str, int]:
    """Add the usable answers of one import to the votes.

    Args:
        votes: Changed in place.
        table: An import (schema `IMPORTED`); imports are added in their order.

    Returns:
        Numbers of answers: num_new, num_repeated, num_changed.
    """
    counts = {"num_new": 0, "num_repeated": 0, "num_changed": 0}
    usable = table.filter(table["problem"].is_null())
    columns = (usable[name].to_pylist() for name in _COLUMNS)
    for image_id, annotator, kind, label, answered_at in zip(*columns, strict=True):
        vote, earlier = Vote(kind, label, answered_at), votes.get((image_id, annotator))
        is_same = earlier is not None and earlier[:2] == vote[:2]
        counts[f"num_{'new' if earlier is None else 'repeated' if is_same else 'changed'}"] += 1
        if earlier is None or not _is_older(vote, earlier):
            votes[image_id, annotator] = vote
    return counts


def count_votes(votes: Mapping[tuple[str, str], Vote]) -> pa.Table:
    """Return the decision for each image (schema `MERGED`), sorted by image id."""
    by_image: dict[str, list[Vote]] = defaultdict(list)
    for (image_id, _), vote in votes.items():
        if vote.counts:
            by_image[image_id].append(vote)
    rows = [{"image_id": image, **_decide(by_image[image])} for image in sorted(by_image)]
    return pa.Table.from_pylist(rows, MERGED)


def _is_older(vote: Vote, other: Vote) -> bool:
    if vote.answered_at is None or other.answered_at is None:
        return False
    return vote.answered_at < other.answered_at


def _decide(votes: Iterable[Vote]) -> dict[str, str | int | None]:
    counts = Counter(vote._replace(answered_at=None) for vote in votes)
    without_skips = {vote: count for vote, count in counts.items() if vote.kind != "skip"}
    highest = max(without_skips.values(), default=0)
    winners = [vote for vote, count in without_skips.items() if count == highest]
    kind, label = "skip", None
    if len(winners) == 1:
        kind, label = winners[0].kind, winners[0].label
    elif winners:
        kind = "conflict"
    summary = sorted(counts.items(), key=lambda item: (-item[1], item[0].kind, item[0].text))
    text = ", ".join(f"{vote.text} {count}" for vote, count in summary)
    return {"kind": kind, "label": label, "num_annotators": counts.total(), "votes": text}
