"""Predictions that a person should look at: a contact sheet, and tasks for Label Studio."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.answers.contact_sheet import write_contact_sheet
from tasks.answers.label_studio import write_tasks
from tasks.answers.likely import likeliest
from tasks.answers.schema import QUERY
from tasks.progress import say
from tasks.refs import PredictionsRef, Ref
from tasks.specs import InputError, ReviewSpec
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION
from tasks.storage.manifest import iter_tables
from tasks.storage.tables import write_table
from tasks.storage.uris import join

FOLDER = "review"  # beside the predictions
SHEET, LABEL_STUDIO, TABLE = "contact-sheet.html", "label-studio", "review.parquet"
_COLUMNS = (
    *("image_id", "uri", "label", "confidence", "runner_up", "none_of_these"),
    "probabilities",
)


def write_review(predictions: PredictionsRef, model: Ref, spec: ReviewSpec, max_pixels: int) -> Ref:
    """Write what a person should look at beside the predictions, the most doubtful first.

    The answers that the sheet saves, or Label Studio exports, are what `--answers` takes.

    Args:
        predictions: Of `predict_pool`.
        model: What they were made with; it knows the classes.
        spec: Which of them.
        max_pixels: Larger images are not decoded.
    """
    folder = join(predictions.uri, FOLDER)
    classes = tuple(read_json(join(model.uri, DESCRIPTION))["classes"])
    table = doubtful(predictions.uri, classes, spec)
    write_contact_sheet(join(folder, SHEET), table, classes=classes, max_pixels=max_pixels)
    try:
        write_tasks(
            join(folder, LABEL_STUDIO),
            table,
            classes=classes,
            model=f"coft-{model.digest}",
            max_pixels=max_pixels,
        )
    except InputError as error:  # names that Label Studio does not take; the sheet takes any
        say(f"No tasks for Label Studio: {error}")
    write_table(join(folder, TABLE), table)
    return Ref(uri=folder, digest=predictions.digest, rows=table.num_rows)


def doubtful(predictions: str, classes: Sequence[str], spec: ReviewSpec) -> pa.Table:
    """Return the predictions to look at (schema `QUERY`): unsure, or unlike the pool."""
    found: list[pa.Table] = []
    for table in iter_tables(predictions, _COLUMNS):
        own = pc.min_element_wise(table["confidence"], pc.subtract(1.0, table["none_of_these"]))
        unsure = pc.less(table["confidence"], spec.below)
        foreign = pc.greater_equal(table["none_of_these"], spec.foreign)
        wanted = table.append_column("doubt", own).filter(pc.or_(unsure, foreign))
        found = [_first(pa.concat_tables([*found, wanted]), spec.most)]
    rows = (row for table in found for row in table.to_pylist())
    told = [_asked(row, position, classes, spec) for position, row in enumerate(rows)]
    return pa.Table.from_pylist(told, schema=QUERY)


def _first(table: pa.Table, most: int) -> pa.Table:
    return table.sort_by([("doubt", "ascending"), ("image_id", "ascending")]).slice(0, most)


def reason_of(row: Mapping[str, Any], foreign: float) -> str:
    """Return why a person should look at a prediction, in words."""
    share = row["none_of_these"]
    if share is not None and share >= foreign:
        return f"{share:.1%} of the pool look more like one of the classes"
    return f"or {row['runner_up']}?" if row["runner_up"] else "no class is likely"


def _asked(
    row: Mapping[str, Any], position: int, classes: Sequence[str], spec: ReviewSpec
) -> dict[str, object]:
    return {
        **{name: row[name] for name in ("image_id", "uri", "label", "confidence")},
        "reason": reason_of(row, spec.foreign),
        "position": position,
        "round": 0,
        "likely": likeliest(np.array([row["probabilities"]]), classes)[0],
    }
