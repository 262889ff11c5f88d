"""Match answers with the images of a pool and with class names; name the problem of the others."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tasks.answers.schema import IMPORTED, fold
from tasks.storage.uris import absolute

NO_IMAGE = "no-image-given"
UNKNOWN_IMAGE = "unknown-image"
AMBIGUOUS_URI = "ambiguous-uri"
UNKNOWN_LABEL = "unknown-label"


def match(answers: pa.Table, classes: Sequence[str], pool: Iterable[pa.Table]) -> pa.Table:
    """Return the answers (schema `IMPORTED`) with ids and class names of the pool, or a problem.

    Args:
        answers: As `read_answers` returns them.
        classes: The class names. A label that equals none is compared without letter case and
            spaces around it, and must then equal exactly one.
        pool: Tables with columns image_id and uri, one at a time.
    """
    images = _find_images(answers, pool)
    names = _ClassNames(classes)
    rows = [_match(row, images, names) for row in answers.to_pylist()]
    return pa.Table.from_pylist(rows, IMPORTED)


class _PoolImages(NamedTuple):
    """The images of a pool that some answers are about."""

    ids: set[str]
    ids_at: dict[str, set[str]]  # by the URI as the answer has it


class _ClassNames:
    """Look-up of class names as people write them."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._exact = frozenset(classes)
        self._folded: dict[str, list[str]] = defaultdict(list)
        for name in classes:
            self._folded[fold(name)].append(name)

    def find(self, label: str) -> str | None:
        """Return the only class that a label can mean, or None."""
        if label in self._exact:
            return label
        if label.strip() in self._exact:
            return label.strip()
        similar = self._folded.get(fold(label), [])
        return similar[0] if len(similar) == 1 else None


def _match(row: dict[str, Any], images: _PoolImages, names: _ClassNames) -> dict[str, Any]:
    image_id, problem = _identify(row, images)
    label, written = None, row["label"]
    if row["kind"] == "label":
        label = names.find(written)
        problem = problem or (UNKNOWN_LABEL if label is None else None)
        label = label or written
    return {**row, "image_id": image_id, "label": label, "written": written, "problem": problem}


def _identify(row: dict[str, Any], images: _PoolImages) -> tuple[str | None, str | None]:
    """Return the id of the image of an answer, and the problem if there is one."""
    if row["image_id"] is not None:
        return row["image_id"], None if row["image_id"] in images.ids else UNKNOWN_IMAGE
    if row["uri"] is None:
        return None, NO_IMAGE
    candidates = images.ids_at.get(row["uri"], set())
    if len(candidates) == 1:
        return next(iter(candidates)), None
    return None, AMBIGUOUS_URI if candidates else UNKNOWN_IMAGE


def _find_images(answers: pa.Table, pool: Iterable[pa.Table]) -> _PoolImages:
    """Find the images of the pool that answers name by id or URI; exact URIs take precedence."""
    ids = pc.unique(answers["image_id"]).drop_null()
    uris = pc.unique(answers["uri"]).drop_null().to_pylist()
    by_name: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        by_name[uri.rpartition("/")[2]].append(uri)
    in_pool: set[str] = set()
    exact: dict[str, set[str]] = defaultdict(set)
    relative: dict[str, set[str]] = defaultdict(set)
    for table in pool if len(ids) or uris else ():
        in_pool.update(table["image_id"].filter(pc.is_in(table["image_id"], ids)).to_pylist())
        for image_id, uri, wanted in _with_same_file_name(table, by_name):
            if uri in (wanted, absolute(wanted)):
                exact[wanted].add(image_id)
            elif uri.endswith("/" + os.path.normpath(wanted)):
                relative[wanted].add(image_id)
    return _PoolImages(in_pool, {**relative, **exact})


def _with_same_file_name(
    table: pa.Table, by_name: dict[str, list[str]]
) -> Iterator[tuple[str, str, str]]:
    """Yield (image_id, uri, URI of an answer) of images with the file name of an answer."""
    if not by_name:
        return
    names = pc.replace_substring_regex(table["uri"], "(?s)^.*/", "")
    matched = table.filter(pc.is_in(names, pa.array(list(by_name), pa.string())))
    columns = (matched["image_id"].to_pylist(), matched["uri"].to_pylist())
    for image_id, uri in zip(*columns, strict=True):
        for wanted in by_name[uri.rpartition("/")[2]]:
            yield image_id, uri, wanted
