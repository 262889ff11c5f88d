"""Counts and examples from the files of a run, in bounded memory: one part at a time."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.pool.readers import find_images
from tasks.pool.shards import shards
from tasks.refs import EmbeddingsRef, ImagesRef, LabelsRef, PeerRef, Reason, Ref, TaskRef
from tasks.storage.files import read_json
from tasks.storage.layout import QUARANTINE
from tasks.storage.manifest import iter_tables
from tasks.storage.sql import OFFLINE, Settings
from tasks.storage.uris import join

_ONE_THREAD: Settings = {**OFFLINE, "threads": 1}  # keeps the order of the rows


@dataclass(frozen=True)
class LabelCount:
    """How many labels of a class met one fate."""

    label: str
    kept: bool
    reason: str
    count: int

    @property
    def decided(self) -> bool:
        """Whether the other peer decided on them; those that are held out are not."""
        return self.reason != Reason.HELD_OUT


@dataclass(frozen=True)
class Example:
    """One labelled image of a gallery; `uri` and `truth` are filled in later."""

    image_id: str
    source: str
    label: str
    confidence: float
    gap: float | None
    kept: bool
    reason: str
    uri: str = ""
    truth: str | None = None


@dataclass(frozen=True)
class Sample:
    """Embeddings of a few images: `vectors` of shape (images, dim), in the order of the ids."""

    image_ids: tuple[str, ...]
    vectors: np.ndarray


def count_labels(ref: LabelsRef) -> list[LabelCount]:
    """Count labels by class, fate and reason."""
    rows = _query(
        ref.uri,
        ("label", "kept", "reason"),
        "select label, kept, coalesce(reason, ''), count(*) from rows group by all order by all",
    )
    return [LabelCount(*row) for row in rows]


def count_predicted(ref: Ref | None) -> dict[str, int]:
    """Count labels or predictions by class; none without a stage."""
    if ref is None:
        return {}
    query = "select label, count(*) from rows where label is not null group by all order by all"
    return dict(_query(ref.uri, ("label",), query))


def pick_surest(ref: LabelsRef, per_group: int) -> list[Example]:
    """Return the most confident labels of each class and fate, at most `per_group` of each."""
    return _pick(ref, "max_by", per_group)


def pick_least_sure(ref: LabelsRef, per_group: int) -> list[Example]:
    """Return the least confident labels of each class and fate, at most `per_group` of each."""
    return _pick(ref, "min_by", per_group)


def _pick(ref: LabelsRef, best_by: str, per_group: int) -> list[Example]:
    columns = ("image_id", "source", "label", "confidence", "gap", "kept", "reason")
    row = ", ".join(f"{name} := {name}" for name in columns)
    query = (
        f"select unnest({best_by}(struct_pack({row}), confidence, {int(per_group)})) "  # noqa: S608
        "from rows where not isnan(confidence) "
        f"and coalesce(reason, '') != '{Reason.HELD_OUT}' "
        "group by label, kept order by label, kept"
    )
    return [Example(**row) for (row,) in _query(ref.uri, columns, query)]


def locate(images: ImagesRef, task: TaskRef, examples: Sequence[Example]) -> list[Example]:
    """Fill in where each example's image is, and its true label where there is one."""
    ids = sorted({example.image_id for example in examples})
    found = find_images(images, ids, ["uri"])
    labels = labels_of(task, ids)
    return [
        replace(example, uri=row["uri"], truth=labels.get(example.image_id))
        for example in examples
        if (row := found.get(example.image_id))
    ]


def first_duplicates(images: ImagesRef, limit: int) -> list[dict[str, str]]:
    """Return (uri, duplicate_of) of the first images that are copies of another one."""
    rows: list[dict[str, str]] = []
    for table in iter_tables(images.uri, ("uri", "duplicate_of")):
        copies = table.filter(table["duplicate_of"].is_valid())
        rows += copies.slice(0, limit - len(rows)).to_pylist()
        if len(rows) >= limit:
            break
    return rows


def read_quarantine(
    stage: ImagesRef | EmbeddingsRef, limit: int
) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Count the bad files of a stage by reason, and return the first of them."""
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    folder = (stage.run if isinstance(stage, EmbeddingsRef) else "") or stage.uri
    for table in iter_tables(join(folder, QUARANTINE)):
        counts.update(table["reason"].to_pylist())
        rows += table.slice(0, limit - len(rows)).to_pylist()
    return counts, rows


def sample_embeddings(images: ImagesRef, ref: EmbeddingsRef, limit: int) -> Sample:
    """Draw at most `limit` embeddings.

    Ids are hashes of the images, so the lowest ids are a fair draw, the same for every tower.
    """
    ids, vectors = list[str](), [np.zeros((0, ref.dim), np.float32)]
    for shard in shards(images, ref):  # in rising order of the ids
        if len(ids) >= limit:
            break
        found, features = shard.features()
        ids += found.to_pylist()
        vectors.append(features.numpy())
    return Sample(tuple(ids[:limit]), np.concatenate(vectors)[:limit])


def labels_of(ref: Ref | None, image_ids: Sequence[str]) -> dict[str, str]:
    """Look up the `label` of a few images; those that are not there are left out."""
    wanted = pa.array(image_ids, pa.string())
    labels: dict[str, str] = {}
    for table in iter_tables(ref.uri, ("image_id", "label")) if ref else ():
        rows = table.filter(pc.is_in(table["image_id"], wanted))
        labels.update(zip(rows["image_id"].to_pylist(), rows["label"].to_pylist(), strict=True))
    return labels


def read_histories(peers: Sequence[PeerRef]) -> list[dict[str, Any]]:
    """Return the history rows of all peers and phases, each with its phase and peer."""
    rows = []
    for peer in peers:
        for row in read_json(join(peer.uri, "history.json")):
            rows.append({"phase": peer.phase, "peer": peer.peer, **row})  # noqa: PERF401
    return rows


def _query(folder: str, columns: Sequence[str], query: str) -> list[Any]:
    """Run SQL over the `rows` of a folder, streamed part by part."""
    tables = iter_tables(folder, columns)
    first = next(tables, None)
    if first is None:
        return []
    batches = _batches(chain([first], tables), first.schema.remove_metadata())
    with (
        pa.RecordBatchReader.from_batches(first.schema.remove_metadata(), batches) as rows,
        duckdb.connect(config=_ONE_THREAD) as connection,
    ):
        connection.register("rows", rows)
        return connection.execute(query).fetchall()


def _batches(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for table in tables:
        yield from table.cast(schema).to_batches()
