"""Match answers with the images of a pool and with class names; name the problem of the others."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.annotations.located import Located
from tasks.annotations.schema import IMPORTED, BadAnswers
from tasks.annotations.spelling import Names
from tasks.storage.sql import temporary_database

NO_IMAGE = "no-image-given"
UNKNOWN_IMAGE = "unknown-image"
AMBIGUOUS_URI = "ambiguous-uri"
UNKNOWN_LABEL = "unknown-label"


def match(answers: pa.Table, classes: Sequence[str], pool: Iterable[pa.Table]) -> pa.Table:
    """Return the answers (schema `IMPORTED`) with ids and class names of the pool, or a problem.

    Args:
        answers: As `read_answers` returns them.
        classes: The class names; labels are compared as `spelling.fold` spells them.
        pool: Tables with columns image_id, uri and name, one at a time.
    """
    with temporary_database() as database:
        images = Located(database)
        ids = _add(images, answers, pool)
        images.match()
        found, several = images.found(), images.ambiguous()
    names = Names(classes)
    rows = []
    for row in answers.to_pylist():
        image_id, problem = _identify(row, ids, found, several)
        label, written = None, row["label"]
        if row["kind"] == "label":
            label = names.find(written)
            problem = problem or (UNKNOWN_LABEL if label is None else None)
            label = label or written
        more = {"image_id": image_id, "label": label, "written": written, "problem": problem}
        rows.append({**row, **more})
    return pa.Table.from_pylist(rows, IMPORTED)


def are_enough(num_usable: int, num_rows: int, *, allow_partial: bool) -> bool:
    """Return whether what can be used of a file is half of it at least, or something if allowed."""
    return num_usable > 0 and (allow_partial or num_usable * 2 >= num_rows)


def check_most(answers: pa.Table, origin: str, *, allow_partial: bool) -> None:
    """Refuse matched answers of which none, or fewer than half, can be used.

    Args:
        answers: As `match` returns them.
        origin: Where they come from, for the message.
        allow_partial: Whether fewer than half are enough.

    Raises:
        BadAnswers: says how many have which problem, with examples.
    """
    num_usable = answers["problem"].null_count
    if are_enough(num_usable, len(answers), allow_partial=allow_partial):
        return
    counts = Counter(answers["problem"].drop_null().to_pylist())
    told = [f"{count:,} with {name} ({_examples(answers, name)})" for name, count in counts.items()]
    msg = (
        f"{origin}: expected answers about images of the pool, one of the class names each; "
        f"{num_usable:,} of {len(answers):,} can be used; {', '.join(told) or 'there are none'}. "
        "Check that images and classes are those that were asked about"
    )
    raise BadAnswers(msg + (", or say --allow-partial-labels" if num_usable else ""))


def _examples(answers: pa.Table, problem: str) -> str:
    rows = answers.filter(pc.equal(answers["problem"], problem)).slice(0, 3).to_pylist()
    return ", ".join(f"{row['uri'] or row['image_id']}: {row['written']}" for row in rows)


def _add(images: Located, answers: pa.Table, pool: Iterable[pa.Table]) -> set[str]:
    """Add images and paths, and return the ids of images that answers name by id.

    What is called an id and is none may be a name.
    """
    given = pc.unique(answers["image_id"]).drop_null()
    ids: set[str] = set()
    for table in pool:
        images.add_images(table["image_id"], table["uri"], table["name"])
        ids.update(table["image_id"].filter(pc.is_in(table["image_id"], given)).to_pylist())
    images.add_paths(answers["uri"])
    images.add_paths(given.filter(pc.invert(pc.is_in(given, pa.array(list(ids), pa.string())))))
    return ids


def _identify(
    row: dict[str, Any],
    ids: AbstractSet[str],
    found: dict[str, str],
    several: AbstractSet[str],
) -> tuple[str | None, str | None]:
    """Return the id of the image of an answer, and the problem if there is one."""
    image_id, path = row["image_id"], row["uri"] or row["image_id"]
    if image_id in ids:
        return image_id, None
    if path is None:
        return None, NO_IMAGE
    if path in found:
        return found[path], None
    return image_id, AMBIGUOUS_URI if path in several else UNKNOWN_IMAGE
