"""Which predictions, disagreements or refused files a person is asked about."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from tasks.annotations.spelling import Names
from tasks.answering.desk import Question
from tasks.answering.predicted import Predicted
from tasks.answering.specs import AskSpec
from tasks.answers.likely import likeliest
from tasks.answers.review import reason_of
from tasks.query.questions import disagreements
from tasks.query.sandbox import run_sql
from tasks.specs import InputError, ReviewSpec
from tasks.storage.sql import literal

BELOW = 0.6  # of a confidence that is doubtful, unless another one is said
FOREIGN: float = ReviewSpec.model_fields["foreign"].default

_COLUMNS = "image_id, uri, label, confidence, runner_up, runner_up_confidence, probabilities"
_DOUBT = "least(confidence, 1 - coalesce(none_of_these, 0))"


def doubtful(predicted: Predicted, classes: Sequence[str], spec: AskSpec) -> list[Question]:
    """Return the predictions that are unsure, or look like no class; the most doubtful first."""
    below = BELOW if spec.below is None else spec.below
    rows = predicted.rows(
        f"SELECT {_COLUMNS}, none_of_these FROM predictions "  # noqa: S608  # numbers of ours
        f"WHERE confidence < {below!r} OR none_of_these >= {FOREIGN} "
        f"ORDER BY {_DOUBT}, image_id LIMIT {spec.most}"
    )
    return [_question(row, classes, reason_of(row, FOREIGN)) for row in rows.to_pylist()]


def confused(predicted: Predicted, classes: Sequence[str], spec: AskSpec) -> list[Question]:
    """Return images whose first two classes are these two; the closest call first.

    Raises:
        InputError: these are not two classes.
    """
    pair = _pair(str(spec.confused), classes)
    both = ", ".join(literal(name) for name in pair)
    rows = predicted.rows(
        f"SELECT {_COLUMNS} FROM predictions WHERE label IN ({both}) "  # noqa: S608  # quoted
        f"AND runner_up IN ({both}) ORDER BY confidence - runner_up_confidence, image_id "
        f"LIMIT {spec.most}"
    )
    reason = f"{pair[0]} or {pair[1]}?"
    return [_question(row, classes, reason) for row in rows.to_pylist()]


def disputed(workspace: str, spec: AskSpec) -> list[Question]:
    """Return images that two models label differently; what both are sure of first."""
    rows = disagreements(workspace, spec.most, pool=spec.pool).to_pylist()
    return [
        Question(
            image_id=row["image_id"],
            uri=row["uri"],
            label=None,
            confidence=None,
            reason=f"{row['between']} disagree: {row['first']} or {row['second']}?",
            likely=((row["first"], None), (row["second"], None)),
        )
        for row in rows
    ]


def refused(workspace: str, spec: AskSpec) -> list[Question]:
    """Return the files in quarantine, each with the reason; their ids are of their addresses."""
    rows = run_sql(
        workspace,
        f"SELECT uri, stage, reason, detail FROM quarantine ORDER BY reason, uri LIMIT {spec.most}",  # noqa: S608
        pool=spec.pool,
    )
    return [
        Question(
            image_id=sha256(row["uri"].encode()).hexdigest(),
            uri=row["uri"],
            label=None,
            confidence=None,
            reason=f"refused: {row['reason']} ({row['detail']}). {row['uri'].rpartition('/')[2]}",
        )
        for row in rows.to_pylist()
    ]


def _question(row: dict[str, Any], classes: Sequence[str], reason: str) -> Question:
    return Question(
        image_id=row["image_id"],
        uri=row["uri"],
        label=row["label"],
        confidence=row["confidence"],
        reason=reason,
        likely=_likely(row, classes),
    )


def _likely(row: dict[str, Any], classes: Sequence[str]) -> tuple[tuple[str, float | None], ...]:
    probabilities = row["probabilities"]
    if probabilities and len(probabilities) == len(classes):
        (first,) = likeliest(np.array([probabilities]), classes)
        return tuple((one["label"], one["probability"]) for one in first)
    both = ((row["label"], row["confidence"]), (row["runner_up"], row["runner_up_confidence"]))
    return tuple((name, share) for name, share in both if name is not None)


def _pair(text: str, classes: Sequence[str]) -> tuple[str, str]:
    names = Names(classes)
    found = [names.find(word.strip()) for word in text.split(",")]
    known = [name for name in found if name is not None]
    if len(found) != 2 or len(set(known)) != 2:  # noqa: PLR2004  # a pair
        raise InputError(f"--confused {text}: expected two class names, as in 'cat,dog'.")
    return known[0], known[1]
