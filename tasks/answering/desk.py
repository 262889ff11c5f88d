"""Who is asked what: questions go to annotators who have not answered them, each to few enough."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from threading import RLock
from time import monotonic
from typing import Any, NamedTuple

from tasks.answers.journal import Journal, Said
from tasks.answers.merging import count_votes

LEASE = 90.0  # seconds for which a question stays with a page that has fetched it and is silent
SHOWN = 50  # contradictions that are listed


class Question(NamedTuple):
    """An image that somebody is to look at, and what the model takes it for."""

    image_id: str
    uri: str
    label: str | None
    confidence: float | None
    reason: str
    likely: tuple[tuple[str, float | None], ...] = ()
    round: int = 0


def questions_of(rows: Iterable[dict[str, Any]]) -> list[Question]:
    """Return the rows of a query (schema `QUERY`) as questions."""
    return [
        Question(
            image_id=row["image_id"],
            uri=row["uri"],
            label=row["label"],
            confidence=row["confidence"],
            reason=row["reason"] or "",
            likely=tuple((one["label"], one["probability"]) for one in row.get("likely") or ()),
            round=row["round"],
        )
        for row in rows
    ]


@dataclass
class Desk:
    """The questions that are open, and who has which of them before them.

    Attributes:
        journal: Where answers are written down.
        overlap: Annotators that each image is for.
        clock: In seconds.
        queue: The questions, in the order in which to ask.
    """

    journal: Journal
    overlap: int = 1
    clock: Callable[[], float] = monotonic
    queue: tuple[Question, ...] = ()
    _known: dict[str, Question] = field(default_factory=dict)
    _leases: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    _lock: Any = field(default_factory=RLock)

    def put(self, questions: Sequence[Question]) -> None:
        """Ask these from now on; earlier ones may still be answered, and are not asked again."""
        with self._lock:
            self._known |= {one.image_id: one for one in questions}
            self.queue = tuple(questions)

    def find(self, image_id: str) -> Question | None:
        """Return the question about an image, of the queue or an earlier one."""
        return self._known.get(image_id)

    def take(
        self, annotator: str, count: int, *, have: Collection[str] = (), label: str | None = None
    ) -> list[Question]:
        """Return up to `count` questions that this annotator should get next.

        Args:
            annotator: Who asks.
            count: How many.
            have: Images that are before them already; these stay theirs.
            label: Only images that the model takes for this class.
        """
        with self._lock:
            now, voters = self.clock(), self._voters()
            for image in have:
                self._lease(image, annotator, now)
            taken: list[Question] = []
            for one in self.queue:
                if len(taken) == count:
                    break
                wanted = one.image_id not in have and label in (None, one.label)
                if wanted and self._is_free(one.image_id, annotator, now, voters):
                    self._lease(one.image_id, annotator, now)
                    taken.append(one)
            return taken

    def answer(self, annotator: str, said: Sequence[Said]) -> int:
        """Write answers down, and return how many are news.

        Raises:
            OSError: the record cannot be written; nothing was added.
        """
        with self._lock:
            news = self.journal.add(annotator, said)
            for one in said:
                self._leases[one.image_id].pop(annotator, None)
            return news

    def num_done(self) -> int:
        """Return how many questions of the queue have as many answers as they need."""
        voters = self._voters()
        return sum(len(voters[one.image_id]) >= self.overlap for one in self.queue)

    def state(self, annotator: str) -> dict[str, Any]:
        """Return how far all are, as JSON.

        `mine` and `open` are of this annotator; `classes` counts their open questions by what the
        model takes them for.
        """
        with self._lock:
            now, voters = self.clock(), self._voters()
            free = [o for o in self.queue if self._is_free(o.image_id, annotator, now, voters)]
            conflicts = [row for row in self.decided() if row["kind"] == "conflict"]
            return {
                "asked": len(self.queue),
                "done": self.num_done(),
                "open": len(free),
                "mine": sum(annotator in names for names in voters.values()),
                "annotators": dict(Counter(name for names in voters.values() for name in names)),
                "classes": dict(Counter(one.label for one in free if one.label).most_common()),
                "agreement": self._agreement(voters),
                "num_conflicts": len(conflicts),
                "conflicts": [
                    {"image_id": row["image_id"], "votes": row["votes"]}
                    for row in conflicts[:SHOWN]
                ],
            }

    def said(self, annotator: str, image_id: str) -> tuple[str, str | None] | None:
        """Return (kind, label) of what somebody said of an image; None if nothing."""
        vote = self.journal.votes.get((image_id, annotator))
        return (vote.kind, vote.label) if vote is not None and vote.counts else None

    def decided(self) -> list[dict[str, Any]]:
        """Return what the votes come to for each image, as rows of the schema `MERGED`."""
        rows: list[dict[str, Any]] = count_votes(self.journal.votes).to_pylist()
        return rows

    def labels(self) -> dict[str, str]:
        """Return the decided classes by image."""
        return {row["image_id"]: row["label"] for row in self.decided() if row["kind"] == "label"}

    def _voters(self) -> dict[str, set[str]]:
        voters: dict[str, set[str]] = defaultdict(set)
        for (image, annotator), vote in self.journal.votes.items():
            if vote.counts:
                voters[image].add(annotator)
        return voters

    def _is_free(self, image: str, annotator: str, now: float, voters: dict[str, set[str]]) -> bool:
        if annotator in voters[image]:
            return False
        held = {who for who, until in self._leases[image].items() if until > now}
        return len((voters[image] | held) - {annotator}) < self.overlap

    def _lease(self, image: str, annotator: str, now: float) -> None:
        self._leases[image][annotator] = now + LEASE

    def _agreement(self, voters: dict[str, set[str]]) -> dict[str, int]:
        """Return how many images several people named, and of how many they say the same."""
        several = [image for image, names in voters.items() if len(names) > 1]
        same = 0
        for image in several:
            said = {self.journal.votes[image, name][:2] for name in voters[image]}
            same += len(said) == 1
        return {"several": len(several), "same": same}
