"""Fit answers to the images of a pool and to its class names, and say which do not fit."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.answers.schema import IMPORTED, fold
from tasks.refs import PoolRef
from tasks.storage.manifest import iter_tables
from tasks.storage.uris import absolute, is_local

NO_IMAGE = "no-image-given"
UNKNOWN_IMAGE = "unknown-image"
AMBIGUOUS_URI = "ambiguous-uri"
UNKNOWN_LABEL = "unknown-label"


def match(answers: pa.Table, classes: Sequence[str], pool: Iterable[pa.Table]) -> pa.Table:
    """Return the answers (schema `IMPORTED`) with ids and class names of the pool, or a problem.

    Args:
        answers: What `read_answers` returns.
        classes: The class names. A label fits as it is, else without regard to letter case and
            spaces around it where that leaves one class.
        pool: Tables of (image_id, uri), one at a time; more columns do no harm.
    """
    known, located = _find(answers, pool)
    names = _Names(classes)
    rows = [_match(row, known, located, names) for row in answers.to_pylist()]
    return pa.Table.from_pylist(rows, IMPORTED)


def askable(pool: PoolRef, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield columns of the images that people may be asked about: no test images, no copies."""
    for table in iter_tables(pool.uri, [*columns, "split", "duplicate_of"]):
        keep = pc.and_(pc.equal(table["split"], "pool"), table["duplicate_of"].is_null())
        yield table.filter(keep).select(list(columns))


class _Names:
    """Class names by how people write them."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._exact = frozenset(classes)
        self._folded: dict[str, list[str]] = defaultdict(list)
        for name in classes:
            self._folded[fold(name)].append(name)

    def find(self, label: str) -> str | None:
        """Return the class that a label means, if it is one and only one."""
        if label in self._exact:
            return label
        if label.strip() in self._exact:
            return label.strip()
        similar = self._folded.get(fold(label), [])
        return similar[0] if len(similar) == 1 else None


def _match(
    row: dict[str, Any], known: set[str], located: dict[str, set[str]], names: _Names
) -> dict[str, Any]:
    image_id, problem = _identify(row, known, located)
    label, written = None, row["label"]
    if row["kind"] == "label":
        label = names.find(written)
        problem = problem or (UNKNOWN_LABEL if label is None else None)
        label = label or written
    return {**row, "image_id": image_id, "label": label, "written": written, "problem": problem}


def _identify(
    row: dict[str, Any], known: set[str], located: dict[str, set[str]]
) -> tuple[str | None, str | None]:
    """Return the id of the image of an answer, and what is wrong with it."""
    if row["image_id"] is not None:
        return row["image_id"], None if row["image_id"] in known else UNKNOWN_IMAGE
    if row["uri"] is None:
        return None, NO_IMAGE
    found = located.get(row["uri"], set())
    if len(found) == 1:
        return next(iter(found)), None
    return None, AMBIGUOUS_URI if found else UNKNOWN_IMAGE


def _find(answers: pa.Table, pool: Iterable[pa.Table]) -> tuple[set[str], dict[str, set[str]]]:
    """Return which ids of the answers the pool has, and the ids of the images at their URIs."""
    ids = pc.unique(answers["image_id"]).drop_null()
    uris = pc.unique(answers["uri"]).drop_null().to_pylist()
    by_name: dict[str, list[str]] = defaultdict(list)
    for uri in uris:
        by_name[uri.rpartition("/")[2]].append(uri)
    known: set[str] = set()
    exact: dict[str, set[str]] = defaultdict(set)
    relative: dict[str, set[str]] = defaultdict(set)
    for table in pool if len(ids) or uris else ():
        known.update(table["image_id"].filter(pc.is_in(table["image_id"], ids)).to_pylist())
        for image_id, uri, wanted in _candidates(table, by_name):
            if uri in (wanted, _full(wanted)):
                exact[wanted].add(image_id)
            elif uri.endswith("/" + os.path.normpath(wanted)):
                relative[wanted].add(image_id)
    return known, {**relative, **exact}


def _full(uri: str) -> str:
    return absolute(uri) if is_local(uri) else uri


def _candidates(table: pa.Table, by_name: dict[str, list[str]]) -> Iterator[tuple[str, str, str]]:
    """Yield (image_id, uri, wanted URI) of the images whose file name is wanted."""
    if not by_name:
        return
    names = pc.replace_substring_regex(table["uri"], "(?s)^.*/", "")
    near = table.filter(pc.is_in(names, pa.array(list(by_name), pa.string())))
    columns = (near["image_id"].to_pylist(), near["uri"].to_pylist())
    for image_id, uri in zip(*columns, strict=True):
        for wanted in by_name[uri.rpartition("/")[2]]:
            yield image_id, uri, wanted
