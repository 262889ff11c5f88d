"""Two peers judge each other: one labels, the other keeps or rejects (CoFT 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clipcore import cleaning
from clipcore.losses import scaled_similarity
from tasks import shards
from tasks.cluster import run_tasks
from tasks.label.parts import (
    KIND,
    Candidates,
    Target,
    candidates,
    class_names,
    each_part,
    labels_once,
    labels_table,
    merge_top,
    only_pool,
    write_part,
)
from tasks.specs import HELD_OUT, CoftSpec, EmbeddingsRef, LabelsRef, PeerRef, PoolRef
from tasks.stage import Outcome, part_uris, step
from tasks.towers import read_class_embeddings
from tasks.vectors import read_features

REJECTED = "the other peer holds it to be wrong"
RESCUED = "rescued: its class kept too few"


@step("cross-filter")
def cross_filter(
    peers: Sequence[PeerRef],
    features: Sequence[EmbeddingsRef],
    pool: PoolRef,
    spec: CoftSpec,
) -> tuple[LabelsRef, LabelsRef]:
    """Label the pool with each peer and keep what the other peer holds to be right (CoFT 3.2)."""
    one = _cross_filter_one(1, peers, features, pool, spec)
    two = _cross_filter_one(2, peers, features, pool, spec)
    return one, two


def held_out(image_ids: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Return which images are kept aside: a fixed share, decided by each id and the seed alone."""
    scores = [int(shards.fingerprint(seed, image_id), 16) / 2**64 for image_id in image_ids]
    return np.array(scores) < share


@dataclass(frozen=True)
class _Judged:
    """Whose labels are judged by whom."""

    pool: PoolRef
    own: str
    other: str
    source: str
    holdout: float
    seed: int
    min_kept: int


def _cross_filter_one(
    number: int,
    peers: Sequence[PeerRef],
    features: Sequence[EmbeddingsRef],
    pool: PoolRef,
    spec: CoftSpec,
) -> LabelsRef:
    own, other = (0, 1) if number == 1 else (1, 0)
    source = f"peer-{number}"
    runtime, min_kept, holdout = spec.runtime, spec.phase2.min_kept, spec.phase2.holdout
    inputs = [stage.digest for stage in (*peers, *features)]
    digest = shards.fingerprint(KIND, source, inputs, min_kept, holdout, spec.seed)
    folder = shards.join(runtime.workspace, KIND, digest)
    judged = _Judged(pool, peers[own].uri, peers[other].uri, source, holdout, spec.seed, min_kept)

    def compute() -> Outcome:
        uris = zip(part_uris(features[own].uri), part_uris(features[other].uri), strict=True)
        parts = [(judged, part, *pair) for part, pair in enumerate(uris)]
        scanned = [result for _, result in run_tasks(_scan_judged, parts, runtime=runtime)]
        counts = torch.stack([kept for kept, _ in scanned]).sum(dim=0)
        best = merge_top(
            [found for _, found in scanned],
            num_classes=len(pool.classes),
            per_class=min_kept,
        )
        rescued = {image for image, label in best.items() if counts[label] < min_kept}
        items = [(Target(folder, digest, part), judged, *pair, rescued) for _, part, *pair in parts]
        label, total = f"Cross-filter {source}", features[own].rows
        return each_part(_write_judged, items, label=label, total=total, runtime=runtime)

    return labels_once(folder, digest, source, compute)


def _judge(
    judged: _Judged, number: int, uri_own: str, uri_other: str
) -> tuple[pa.Table, Tensor, Tensor]:
    """Return ids with own confidence and the other's gap, the labels, and who is held out."""
    ids, features = read_features(uri_own)
    _, other_features = read_features(uri_other)
    positive, _, scale = read_class_embeddings(judged.own)
    other_positive, other_negative, _ = read_class_embeddings(judged.other)
    logits = scaled_similarity(features, positive, scale)
    confidence, labels = logits.softmax(dim=1).max(dim=1)
    gap = cleaning.label_gap(other_features, other_positive, other_negative, labels)
    table = pa.table(
        {
            "image_id": ids,
            "label": labels.numpy(),
            "confidence": confidence.numpy(),
            "gap": gap.numpy(),
        }
    )
    table = only_pool(table, judged.pool.uri, number)
    out = held_out(table["image_id"].to_pylist(), judged.holdout, judged.seed)
    return table, torch.from_numpy(table["label"].to_numpy().copy()), torch.from_numpy(out)


def _scan_judged(
    judged: _Judged, number: int, uri_own: str, uri_other: str
) -> tuple[Tensor, Candidates]:
    """Return how many of each class a shard keeps, and its highest gaps of each class."""
    table, labels, out = _judge(judged, number, uri_own, uri_other)
    gap = torch.from_numpy(table["gap"].to_numpy().copy())
    num_classes = len(judged.pool.classes)
    kept = cleaning.cross_filter(gap) & ~out
    inside = table.filter(pa.array((~out).numpy()))
    best = candidates(
        inside["image_id"],
        labels[~out],
        gap[~out],
        shard=number,
        num_classes=num_classes,
        per_class=judged.min_kept,
    )
    return torch.bincount(labels[kept], minlength=num_classes), best


def _write_judged(  # a Ray task takes plain values
    target: Target, judged: _Judged, uri_own: str, uri_other: str, rescued: set[str]
) -> tuple[str, int, int]:
    table, labels, out = _judge(judged, target.number, uri_own, uri_other)
    gap = torch.from_numpy(table["gap"].to_numpy().copy())
    clean = cleaning.cross_filter(gap).numpy()
    saved = np.array([image in rescued for image in table["image_id"].to_pylist()], bool)
    rows = labels_table(
        table["image_id"],
        judged.source,
        class_names(judged.pool.classes, labels),
        torch.from_numpy(table["confidence"].to_numpy().copy()),
        kept=(clean | saved) & ~out.numpy(),
        gap=gap,
        reasons=np.select([out.numpy(), clean, saved], [HELD_OUT, "", RESCUED], REJECTED).tolist(),
    )
    return write_part(target, rows)
