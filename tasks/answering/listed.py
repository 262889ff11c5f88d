"""A list of questions on the page: about predictions, disagreements, refused files, or a test."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from tasks.answering import chosen, sample
from tasks.answering.desk import Desk, Question
from tasks.answering.predicted import Predicted
from tasks.answering.server import serve_page
from tasks.answering.specs import AskSpec, PageSpec
from tasks.answers.merging import Vote
from tasks.specs import InputError, PoolSpec, RuntimeSpec
from tasks.storage.files import exists, open_write
from tasks.storage.layout import Folder, claim_workspace, in_workspace
from tasks.storage.tables import read_facts, write_table
from tasks.storage.uris import join
from tasks.tracking.versions import check_name

SAMPLE = "sample.parquet"
ANSWERS = "answers.csv"
TEST = "test.parquet"
TITLES = {
    "below": "Unsure predictions",
    "confused": "Which of two",
    "disagreements": "Where models disagree",
    "quarantine": "Refused files",
    "as-test": "A test set",
}


def label_listed(
    runtime: RuntimeSpec,
    predictions: str | None,
    classes: Sequence[str],
    ask: AskSpec,
    page: PageSpec,
) -> list[str]:
    """Ask about images on a page, and return lines: where the answers are, and what they say.

    Args:
        runtime: Of the workspace.
        predictions: A file or folder, instead of those in the workspace.
        classes: Names, where the workspace does not know them.
        ask: Which images.
        page: How it is served.

    Raises:
        InputError: there is nothing to ask, or the page cannot be served.
    """
    if len(ask.kinds) > 1:
        raise InputError(f"--{' and --'.join(ask.kinds)}: expected one of them at a time.")
    claim_workspace(runtime.workspace)
    work = work_of(runtime.workspace, predictions, tuple(classes), ask)
    serve_page(work, page)
    return list(work.close())


def work_of(
    workspace: str, predictions: str | None, classes: tuple[str, ...], ask: AskSpec
) -> "ListedWork":
    """Return the questions as what a page is about; see `label_listed`."""
    folder = in_workspace(workspace, Folder.ASKED, check_name(ask.name or ask.kind))
    predicted = Predicted(workspace, predictions, ask.pool)
    names = classes or predicted.classes()
    drawn: pa.Table | None = None
    if ask.kind == "quarantine":
        questions = chosen.refused(workspace, ask)
    elif ask.kind == "disagreements":
        questions = chosen.disputed(workspace, ask)
    else:
        predicted.need()
        if ask.kind == "as-test":
            drawn = _sample(folder, predicted, ask)
            questions = sample.blind(drawn, names)
        else:
            kinds = {"below": chosen.doubtful, "confused": chosen.confused}
            questions = kinds[ask.kind](predicted, names, ask)
    if not questions:
        raise InputError(f"nothing to ask: {TITLES[ask.kind].lower()}: there are none.")
    return ListedWork(TITLES[ask.kind], folder, names, questions, drawn)


def _sample(folder: str, predicted: Predicted, ask: AskSpec) -> pa.Table:
    """Return the sample of a name; a larger one begins with a smaller one.

    Raises:
        InputError: it is of other predictions, which the answers under this name do not measure.
    """
    uri, drawn = join(folder, SAMPLE), sample.draw(predicted, ask)
    facts = {"predictions": predicted.digest(), "seed": str(ask.seed)}
    if exists(uri):
        before = read_facts(uri)
        if changed := [name for name, value in facts.items() if before.get(name) != value]:
            raise InputError(
                f"--as-test: the sample under this name is of other {' and '.join(changed)}; give "
                "the new one another --name"
            )
    write_table(uri, drawn, facts)
    return drawn


class ListedWork:
    """Questions that are all there from the beginning; see `tasks.answering.work`.

    Args:
        title: What stands above the page.
        folder: Of the record of answers.
        classes: Names.
        questions: In the order in which to ask.
        drawn: The sample that is measured on, if it is one.
    """

    max_pixels: int = PoolSpec.model_fields["max_pixels"].default
    features: Mapping[str, np.ndarray] = MappingProxyType({})  # none are at hand

    def __init__(
        self,
        title: str,
        folder: str,
        classes: Sequence[str],
        questions: Sequence[Question],
        drawn: pa.Table | None = None,
    ) -> None:
        self.title, self.folder, self.questions = title, folder, questions
        self._classes, self._sample = tuple(classes), drawn
        self._desk: Desk | None = None

    def classes(self) -> Sequence[str]:
        """Return the class names."""
        return self._classes

    def look(self, desk: Desk) -> None:
        """Put the questions on the desk, once."""
        if self._desk is None:
            self._desk = desk
            desk.put(self.questions)

    def go_on(self) -> str:
        """Say that nothing follows by itself."""
        return "Nothing is trained here; end the page, and give the answers to coft adapt."

    def facts(self, desk: Desk) -> Mapping[str, Any]:
        """Return what the answers so far measure."""
        measured = self._measured(desk)
        return {"measured": [] if measured is None else measured.lines, "finished": False}

    def close(self) -> Sequence[str]:
        """Write the answers as files that other commands take, and say which."""
        if self._desk is None:
            return ()
        rows = self._answers(self._desk)
        if not rows:
            return ("No answers yet; the same command goes on.",)
        target = join(self.folder, ANSWERS)
        with open_write(target) as file:
            pacsv.write_csv(pa.Table.from_pylist(rows), file)
        measured = self._measured(self._desk)
        lines = [
            *(() if measured is None else measured.lines),
            f"{len(rows)} answers: {target}; the same command goes on.",
        ]
        if self._sample is None:
            return [*lines, f"To learn from them: coft adapt ... --answers {target}"]
        return [*lines, self._write_test(rows)]

    def _write_test(self, rows: Sequence[Mapping[str, str]]) -> str:
        named = [row for row in rows if row["kind"] == "label"]
        target = join(self.folder, TEST)
        columns = {"uri": [row["uri"] for row in named], "label": [row["label"] for row in named]}
        write_table(target, pa.table(columns))
        return f"To measure on them: coft adapt ... --test {target} --labels column"

    def _answers(self, desk: Desk) -> list[dict[str, str]]:
        """Return (image_id, uri, label, kind) of what was decided."""
        rows = []
        for row in desk.decided():
            one, kind = desk.find(row["image_id"]), row["kind"]
            if one is not None and kind != "conflict":
                label = Vote(kind, row["label"], None).text
                told = {"image_id": one.image_id, "uri": one.uri, "label": label, "kind": kind}
                rows.append(told)
        return rows

    def _measured(self, desk: Desk) -> sample.Measured | None:
        if self._sample is None:
            return None
        labels = {
            row["image_id"]: row["label"]
            for row in desk.decided()
            if row["kind"] in ("label", "none")
        }
        return sample.measure(self._sample, labels)
