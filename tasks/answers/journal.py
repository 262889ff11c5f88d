"""Answers that come one by one: each is in the record, on the disk, before it counts.

They are imports as those of files are, of a page instead of a file: up to `MOST` answers share one,
which is written anew, whole, with each of them.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import RLock
from typing import NamedTuple

import pyarrow as pa

from tasks.annotations.schema import IMPORTED, UNDONE
from tasks.answers.merging import Vote, Votes, add_votes
from tasks.answers.record import FOLDER, import_names, next_name, read_votes
from tasks.storage.tables import write_table
from tasks.storage.uris import join

MOST = 200  # answers of one file: it is written in milliseconds, and a merge reads few files


class Said(NamedTuple):
    """What a person says of an image: `label`, `none`, `skip`, or `undone` to take it back."""

    image_id: str
    kind: str
    label: str | None


class Journal:
    """The record in a folder, as far as it is, and what is added to it.

    Args:
        folder: Of the rounds, or wherever answers are kept.
        source: What the answers came by, for who reads the files.
    """

    def __init__(self, folder: str, source: str) -> None:
        self._folder, self._source = folder, source
        self._rows: list[dict[str, object]] = []
        self._name = ""
        self._lock = RLock()
        self._known = set(import_names(folder))
        self.votes: Votes = read_votes(folder)

    def add(self, annotator: str, said: Sequence[Said]) -> int:
        """Write answers down, and return how many of them are news.

        What its annotator said of an image last, said again, is none: who did not hear that it
        arrived sends it twice.

        Raises:
            OSError: the record cannot be written; nothing is added.
        """
        with self._lock:
            news = self._news(annotator, said)
            if not news:
                return 0
            earlier = self._rows if len(self._rows) + len(news) <= MOST else []
            rows = [*earlier, *(_row(annotator, one) for one in news)]
            name = self._name if earlier else next_name(self._folder, secrets.token_hex(6))
            table = pa.Table.from_pylist(rows, IMPORTED)
            write_table(join(self._folder, FOLDER, name), table, {"source": self._source})
            self._rows, self._name = rows, name
            self._known.add(name)
            add_votes(self.votes, table.slice(len(earlier)))
            return len(news)

    def refresh(self) -> bool:
        """Take in what others have added since, and say whether anybody has."""
        with self._lock:
            names = set(import_names(self._folder))
            if names == self._known:
                return False
            self._known, self.votes = names, read_votes(self._folder)
            return True

    def _news(self, annotator: str, said: Sequence[Said]) -> list[Said]:
        """Return what is not what the annotator said last; of an image its last word counts."""
        last = {one.image_id: one for one in said}
        return [
            one
            for image, one in last.items()
            if _state(self.votes.get((image, annotator))) != (one.kind, one.label)
        ]


def _state(vote: Vote | None) -> tuple[str, str | None]:
    """Return what somebody says of an image; who said nothing has nothing to take back."""
    return (UNDONE, None) if vote is None else (vote.kind, vote.label)


def _row(annotator: str, said: Said) -> dict[str, object]:
    return {
        **said._asdict(),
        "annotator": annotator,
        "answered_at": datetime.now(UTC),
        "written": said.label,
    }
