"""The table of labels: its columns, how a part is written, and the best labels over all parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from clipcore import cleaning
from tasks.compute.cluster import run_tasks
from tasks.progress import progress, say
from tasks.refs import AnswersRef, LabelsRef
from tasks.specs import RuntimeSpec
from tasks.storage.manifest import Part, part_name
from tasks.storage.schemas import LABELS
from tasks.storage.stage import Outcome, once
from tasks.storage.tables import write_table
from tasks.storage.uris import join

KIND = "labels"


@dataclass(frozen=True)
class Candidates:
    """The best rows of one shard, by class: at most a few per class, so they fit in memory."""

    shard: int
    image_ids: list[str]
    labels: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Target:
    """Which part of which labelling a task writes."""

    folder: str
    digest: str
    number: int


def candidates(
    ids: Any, labels: Tensor, scores: Tensor, *, shard: int, num_classes: int, per_class: int
) -> Candidates:
    """Return the highest scores of each class in one shard, at most `per_class` of each."""
    chosen = cleaning.top_k_per_class(scores, labels, num_classes=num_classes, per_class=per_class)
    picked = [ids[position].as_py() for position in chosen.tolist()]
    return Candidates(shard, picked, labels[chosen], scores[chosen])


def merge_top(found: list[Candidates], *, num_classes: int, per_class: int) -> dict[str, int]:
    """Return image id -> label of the best over all shards; the best of bests is exact."""
    found = sorted(found, key=lambda candidates: candidates.shard)
    ids = [image for candidates in found for image in candidates.image_ids]
    if not ids:
        return {}
    labels = torch.cat([candidates.labels for candidates in found])
    scores = torch.cat([candidates.scores for candidates in found])
    best = cleaning.top_k_per_class(scores, labels, num_classes=num_classes, per_class=per_class)
    return {ids[position]: int(labels[position]) for position in best.tolist()}


def digests(answers: AnswersRef | None) -> list[str]:
    """Return what answers add to the digest of a labelling; nothing where nobody was asked."""
    return [] if answers is None else [answers.digest]


def labels_table(  # noqa: PLR0913  # the columns of the contract
    ids: Any,
    source: str,
    names: list[str],
    confidence: Tensor,
    *,
    kept: np.ndarray,
    gap: Tensor | None = None,
    reasons: list[str] | None = None,
) -> pa.Table:
    """Return rows with the schema of every labelling; no reasons means that all were kept."""
    rows = len(names)
    columns = [
        ids,
        pa.array([source] * rows),
        pa.array(names, pa.string()),
        pa.array(confidence.numpy(), pa.float32()),
        pa.nulls(rows, pa.float32()) if gap is None else pa.array(gap.numpy(), pa.float32()),
        pa.array(kept),
        pa.array(reasons or [""] * rows, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=LABELS)


def write_part(target: Target, table: pa.Table) -> tuple[str, int, int]:
    """Write one part; return its name, its rows, and how many of them were kept."""
    name = part_name(target.number, target.digest)
    write_table(join(target.folder, name), table, {"digest": target.digest})
    return name, table.num_rows, int(pc.sum(table["kept"]).as_py() or 0)


def each_part(
    function: Callable[..., tuple[str, int, int]],
    items: Sequence[tuple[Any, ...]],
    *,
    label: str,
    total: int,
    runtime: RuntimeSpec,
) -> Outcome:
    """Run a function that writes one part and returns (name, rows, kept) for each item."""
    results: dict[int, tuple[str, int, int]] = {}
    with progress(label, total) as advance:
        for position, result in run_tasks(function, items, runtime=runtime):
            results[position] = result
            advance(result[1])
    ordered = [results[position] for position in range(len(items))]
    return Outcome(
        parts=[Part(name=name, rows=rows) for name, rows, _ in ordered],
        facts={"kept": sum(kept for _, _, kept in ordered)},
    )


def labels_once(folder: str, digest: str, source: str, compute: Callable[[], Outcome]) -> LabelsRef:
    """Compute a labelling, or find it finished."""
    label = f"Labels {source}"
    manifest, resumed = once(folder, kind=KIND, digest=digest, label=label, compute=compute)
    kept = int(str(manifest.facts["kept"]))
    say(f"{label}: {kept:,} of {manifest.rows:,} kept")
    return LabelsRef(
        uri=folder,
        digest=digest,
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        source=source,
        num_kept=kept,
    )
