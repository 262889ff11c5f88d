"""Two peers judge each other: one labels, the other keeps or rejects (CoFT 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clipcore import cleaning
from clipcore.losses import scaled_similarity
from tasks.compute.cluster import run_tasks
from tasks.label.people import Told, told
from tasks.label.table import (
    KIND,
    Candidates,
    Target,
    candidates,
    digests,
    each_part,
    labels_once,
    labels_table,
    merge_top,
    write_part,
)
from tasks.pool.readers import only_pool
from tasks.refs import AnswersRef, EmbeddingsRef, LabelsRef, PeerRef, PoolRef, Reason
from tasks.specs import CoftSpec
from tasks.storage.columns import class_names, read_features
from tasks.storage.digests import fingerprint
from tasks.storage.stage import Outcome, part_uris, step
from tasks.storage.uris import join
from tasks.weights import read_class_embeddings


@step("cross-filter")
def cross_filter(
    peers: Sequence[PeerRef],
    features: Sequence[EmbeddingsRef],
    pool: PoolRef,
    spec: CoftSpec,
    answers: AnswersRef | None = None,
) -> tuple[LabelsRef, LabelsRef]:
    """Label the pool with each peer and keep what the other peer holds to be right (CoFT 3.2).

    What people answered is in both clean sets, with their labels (CoFT 4.4).
    """
    one = _cross_filter_one(1, peers, features, pool, spec, answers)
    two = _cross_filter_one(2, peers, features, pool, spec, answers)
    return one, two


def held_out(image_ids: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Return which images are kept aside: a fixed share, decided by each id and the seed alone."""
    scores = [int(fingerprint(seed, image_id), 16) / 2**64 for image_id in image_ids]
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
    answers: AnswersRef | None


def _cross_filter_one(
    number: int,
    peers: Sequence[PeerRef],
    features: Sequence[EmbeddingsRef],
    pool: PoolRef,
    spec: CoftSpec,
    answers: AnswersRef | None,
) -> LabelsRef:
    own, other = (0, 1) if number == 1 else (1, 0)
    source = f"peer-{number}"
    runtime, min_kept, holdout = spec.runtime, spec.phase2.min_kept, spec.phase2.holdout
    inputs = [stage.digest for stage in (*peers, *features)]
    settings = (min_kept, holdout, spec.seed, *digests(answers))
    digest = fingerprint(KIND, source, inputs, *settings)
    folder = join(runtime.workspace, KIND, digest)
    judged = _Judged(
        pool=pool,
        own=peers[own].uri,
        other=peers[other].uri,
        source=source,
        holdout=holdout,
        seed=spec.seed,
        min_kept=min_kept,
        answers=answers,
    )

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


@dataclass(frozen=True)
class _Verdicts:
    """What is said of the pool images of one shard, in their order.

    Attributes:
        table: Ids and the confidence in the label.
        labels: Class numbers: of the answer where there is one, else of the labelling peer.
        gap: What the other peer makes of the label.
        heard: What people said.
        out: What is held out; never what a person settled.
    """

    table: pa.Table
    labels: Tensor
    gap: Tensor
    heard: Told
    out: np.ndarray

    @property
    def free(self) -> np.ndarray:
        """Return where the peers decide."""
        free: np.ndarray = ~(self.heard.settled | self.out)
        return free

    @property
    def clean(self) -> np.ndarray:
        """Return where the other peer holds the peer's label to be right."""
        clean: np.ndarray = cleaning.cross_filter(self.gap).numpy() & self.free
        return clean


def _judge(judged: _Judged, number: int, uri_own: str, uri_other: str) -> _Verdicts:
    ids, features = read_features(uri_own)
    _, other_features = read_features(uri_other)
    positive, _, scale = read_class_embeddings(judged.own)
    other_positive, other_negative, _ = read_class_embeddings(judged.other)
    heard = told(judged.answers, ids, judged.pool.classes)
    softmax = scaled_similarity(features, positive, scale).softmax(dim=1)
    labels = torch.where(heard.labels >= 0, heard.labels, softmax.argmax(dim=1))
    gap = cleaning.label_gap(other_features, other_positive, other_negative, labels)
    table = pa.table(
        {
            "image_id": ids,
            "row": np.arange(len(ids)),
            "confidence": softmax.gather(1, labels[:, None])[:, 0].numpy(),
        }
    )
    table = only_pool(table, judged.pool.uri, number)
    rows = table["row"].to_numpy().copy()
    heard = Told(heard.labels[rows], heard.none_fits[rows])
    out = held_out(table["image_id"].to_pylist(), judged.holdout, judged.seed)
    return _Verdicts(
        table=table,
        labels=labels[rows],
        gap=gap[rows],
        heard=heard,
        out=out & ~heard.settled,
    )


def _scan_judged(
    judged: _Judged, number: int, uri_own: str, uri_other: str
) -> tuple[Tensor, Candidates]:
    """Return how many of each class a shard keeps, and its highest gaps of each class."""
    found = _judge(judged, number, uri_own, uri_other)
    num_classes = len(judged.pool.classes)
    free = torch.from_numpy(found.free)
    best = candidates(
        found.table["image_id"].filter(pa.array(found.free)),
        found.labels[free],
        found.gap[free],
        shard=number,
        num_classes=num_classes,
        per_class=judged.min_kept,
    )
    kept = torch.from_numpy(found.clean | found.heard.named)
    return torch.bincount(found.labels[kept], minlength=num_classes), best


def _write_judged(  # a Ray task takes plain values
    target: Target, judged: _Judged, uri_own: str, uri_other: str, rescued: set[str]
) -> tuple[str, int, int]:
    found = _judge(judged, target.number, uri_own, uri_other)
    ids = found.table["image_id"]
    saved = np.array([image in rescued for image in ids.to_pylist()], bool)
    reasons = np.select(
        [found.heard.named, found.heard.none_fits, found.out, found.clean, saved],
        [Reason.ANSWERED, Reason.NONE_FITS, Reason.HELD_OUT, Reason.KEPT, Reason.RESCUED],
        Reason.REJECTED,
    )
    rows = labels_table(
        ids,
        judged.source,
        class_names(judged.pool.classes, found.labels),
        torch.from_numpy(found.table["confidence"].to_numpy().copy()),
        kept=found.heard.named | found.clean | saved,
        gap=found.gap,
        reasons=reasons.tolist(),
    )
    return write_part(target, rows)
