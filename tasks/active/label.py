"""Active rounds on the page: their questions, and the next round beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.active.rounds import (
    PIN,
    QUERY_FILE,
    check_next,
    has_news,
    open_rounds,
)
from tasks.active.specs import RoundsPageSpec
from tasks.answering.background import Background
from tasks.answering.desk import Desk, Question, questions_of
from tasks.answering.server import serve_page
from tasks.progress import say
from tasks.specs import InputError, RuntimeSpec
from tasks.storage.files import read_json
from tasks.storage.tables import read_table
from tasks.storage.uris import join

_SHOWN = {"number", "num_labels", "accuracy", "churn"}
_OF_A_RUN = {"ray_address", "num_actors", "num_gpus", "wait_minutes", "on_busy", "pixel_cache"}


def label_rounds(runtime: RuntimeSpec, name: str, spec: RoundsPageSpec) -> None:
    """Ask the questions of rounds on a page, and run the next round as their answers come.

    Args:
        runtime: Where the rounds are, and where to compute.
        name: Of the rounds.
        spec: How the page is served, and when a round begins.

    Raises:
        InputError: there are no such rounds, or the page cannot be served.
    """
    work = RoundsWork(runtime, name, spec.train_at)
    try:
        serve_page(work, spec)
    finally:
        for line in work.close():
            say(line)


class RoundsWork:
    """The rounds of a name as what the page is about; see `tasks.answering.work`.

    Args:
        runtime: Where the rounds are, and where to compute.
        name: Of the rounds.
        train_at: Share of a query whose answers begin the next round.
    """

    def __init__(self, runtime: RuntimeSpec, name: str, train_at: float) -> None:
        self._runtime, self._train_at = runtime, train_at
        self._rounds = open_rounds(runtime, name)
        self._seen = 0  # rounds whose questions are on the desk
        self.features: dict[str, np.ndarray] = {}
        self._next = Background(["active", "next", "--name", name, *_options(runtime)])

    @property
    def title(self) -> str:
        return f"Rounds {self._rounds.spec.name}"

    @property
    def folder(self) -> str:
        return self._rounds.folder

    @property
    def max_pixels(self) -> int:
        return self._rounds.spec.active.run.pool.max_pixels

    def classes(self) -> Sequence[str]:
        """Return the class names that the first round has pinned."""
        if not self._rounds.states:
            return ()
        names: list[str] = read_json(join(self.folder, PIN))["classes"]
        return names

    def look(self, desk: Desk) -> None:
        """Put a new query on the desk, or begin the round that makes one when it is due."""
        self._rounds = open_rounds(self._runtime, self._rounds.spec.name)
        if not self._rounds.states:
            if self._next.failure() is None:
                self._next.start()
        elif self._seen < self._rounds.number:
            for number in range(self._seen, self._rounds.number):
                desk.put(self._read(number))
            self._seen = self._rounds.number
        else:
            self._begin_if_due(desk)

    def _begin_if_due(self, desk: Desk) -> None:
        """Begin the next round when enough of the query is answered, and the last one has ended."""
        if self._next.runs() or self._next.failure() is not None or not desk.queue:
            return
        if desk.num_done() >= self._enough(len(desk.queue)) and has_news(self._rounds):
            self._next.start()

    def go_on(self) -> str:
        """Begin the next round with the answers so far."""
        if self._next.runs():
            return "A round is at work already."
        rounds = open_rounds(self._runtime, self._rounds.spec.name)
        if rounds.states and not has_news(rounds):
            return "There are no new answers to train on."
        try:
            check_next(rounds)
        except InputError as error:
            return str(error)
        self._next.start()
        return f"Round {rounds.number} has begun."

    def facts(self, desk: Desk) -> Mapping[str, Any]:
        """Return what came of each round, and how far the next one is."""
        rounds, runs = self._rounds, self._next.runs()
        return {
            "rounds": [state.model_dump(include=_SHOWN) for state in rounds.states],
            "finished": rounds.finished,
            "training": rounds.number if runs else None,
            "lines": self._next.lines()[-3:] if runs else [],
            "failure": self._next.failure(),
            "trains_at": self._enough(len(desk.queue)),
        }

    def close(self) -> Sequence[str]:
        """Stop a round that is at work; what it has finished is kept."""
        name = self._rounds.spec.name
        lines = []
        if self._next.stop():
            lines.append(f"Round {self._rounds.number} was stopped; it goes on where it was.")
        options = " ".join(_options(self._runtime)[:2])
        return [
            *lines,
            f"All answers are kept. Go on with `coft active label --name {name} {options}`, or "
            f"train on them without the page: `coft active next --name {name} {options}`.",
        ]

    def _enough(self, asked: int) -> int:
        """Return how many answers of a query begin the next round: of the last one all."""
        last = self._rounds.states[-1] if self._rounds.states else None
        is_last = last is not None and last.num_asked >= self._rounds.spec.budget
        return asked if is_last else int(np.ceil(self._train_at * asked))

    def _read(self, number: int) -> list[Question]:
        table = read_table(join(self._rounds.round_folder(number), QUERY_FILE))
        if "features" in table.column_names:
            ids, rows = table["image_id"].to_pylist(), table["features"].to_pylist()
            self.features |= {
                image: np.array(row, dtype=np.float16) for image, row in zip(ids, rows, strict=True)
            }
            table = table.drop_columns("features")
        return questions_of(table.to_pylist())


def _options(runtime: RuntimeSpec) -> list[str]:
    """Return where and how wide to run, as options of a command."""
    words = ["--workspace", runtime.workspace]
    for name, value in runtime.model_dump(include=_OF_A_RUN, exclude_defaults=True).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words
