"""Two peers filter each other's labels: one labels, the other keeps or rejects (CoFT 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clipcore import cleaning
from tasks.compute.calls import run_tasks
from tasks.label.people import Answers, answers_about
from tasks.label.table import (
    Target,
    TopOfPart,
    digests,
    label_parts,
    labels_once,
    labels_table,
    merge_top,
    top_of_part,
    write_part,
)
from tasks.pool.readers import of_pool_split
from tasks.refs import AnswersRef, EmbeddingsRef, LabelsRef, PeerRef, PoolRef, Reason
from tasks.specs import CoftSpec
from tasks.storage.columns import read_features, tensor_of
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome, part_uris, step
from tasks.weights import read_dual_head


@step("cross-filter")
def cross_filter(
    peers: Sequence[PeerRef],
    features: Sequence[EmbeddingsRef],
    pool: PoolRef,
    spec: CoftSpec,
    answers: AnswersRef | None = None,
) -> tuple[LabelsRef, LabelsRef]:
    """Label the pool with each peer and keep what the other peer does not reject (CoFT 3.2).

    What people answered is in both clean sets, with their labels (CoFT 4.4).

    Args:
        peers: Both peers of Phase I.
        features: The pool as each of them sees it.
        pool: The images.
        spec: `phase2.holdout` and `phase2.min_kept`, the seed, and where to run.
        answers: People's answers, if there are any.

    Returns:
        The labelling of each peer: kept labels, and a reason for each.
    """
    one = _filter_labels_of(0, peers, features, pool, spec, answers)
    two = _filter_labels_of(1, peers, features, pool, spec, answers)
    return one, two


def held_out(image_ids: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Return which images are held out: a fixed share, decided by each id and the seed alone."""
    scores = [int(fingerprint(seed, image_id), 16) / 2**64 for image_id in image_ids]
    return np.array(scores) < share


@dataclass(frozen=True)
class _Filter:
    """One direction of the cross-filter: `own` labels, `other` keeps or rejects."""

    pool: PoolRef
    own: str
    other: str
    source: str
    holdout: float
    seed: int
    min_kept: int
    answers: AnswersRef | None


def _filter_labels_of(
    own: int,
    peers: Sequence[PeerRef],
    features: Sequence[EmbeddingsRef],
    pool: PoolRef,
    spec: CoftSpec,
    answers: AnswersRef | None,
) -> LabelsRef:
    other, source, runtime = 1 - own, f"peer-{own + 1}", spec.runtime
    min_kept, holdout = spec.phase2.min_kept, spec.phase2.holdout
    inputs = [stage.digest for stage in (*peers, *features)]
    settings = (min_kept, holdout, spec.seed, *digests(answers))
    digest = fingerprint(Folder.LABELS, source, inputs, *settings)
    folder = in_workspace(runtime.workspace, Folder.LABELS, digest)
    direction = _Filter(
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
        pairs = zip(part_uris(features[own].uri), part_uris(features[other].uri), strict=True)
        parts = [(number, *pair) for number, pair in enumerate(pairs)]
        scans = [(direction, *part) for part in parts]
        scanned = [result for _, result in run_tasks(_scan, scans, runtime=runtime)]
        rescued = _rescued(scanned, num_classes=len(pool.classes), min_kept=min_kept)
        items = [
            (Target(folder, digest, number), direction, uri_own, uri_other, rescued)
            for number, uri_own, uri_other in parts
        ]
        return label_parts(
            _write_filtered,
            items,
            label=f"Cross-filter {source}",
            total=features[own].rows,
            runtime=runtime,
        )

    return labels_once(folder, digest, source, compute)


@dataclass(frozen=True)
class _Filtered:
    """The pool images of one part, in their order, and what becomes of their labels.

    Attributes:
        ids: Of the images.
        labels: Class numbers: of the answer where there is one, else of the labelling peer.
        confidence: Of the labelling peer in the label.
        gap: Logit gap of the other peer at the label, as a cosine.
        answers: People's answers.
        out: Where an image is held out; never where a person decided.
    """

    ids: pa.ChunkedArray
    labels: Tensor
    confidence: Tensor
    gap: Tensor
    answers: Answers
    out: np.ndarray

    @property
    def open(self) -> np.ndarray:
        """Return where the peers decide."""
        is_open: np.ndarray = ~(self.answers.closed | self.out)
        return is_open

    @property
    def clean(self) -> np.ndarray:
        """Return where the other peer holds the label to be right."""
        clean: np.ndarray = cleaning.cross_filter(self.gap).numpy() & self.open
        return clean


def _filter_part(direction: _Filter, number: int, uri_own: str, uri_other: str) -> _Filtered:
    ids, features = read_features(uri_own)
    _, other_features = read_features(uri_other)
    classes = direction.pool.classes
    answers = answers_about(ids, direction.answers, classes)
    probabilities = read_dual_head(direction.own).positive.probabilities(features)
    labels = torch.where(answers.labels >= 0, answers.labels, probabilities.argmax(dim=1))
    gap = read_dual_head(direction.other).gap(other_features, labels)
    table = pa.table({"image_id": ids, "row": np.arange(len(ids))})
    table = of_pool_split(table, direction.pool, number)
    rows = tensor_of(table, "row")
    answers = answers.take(rows.numpy())
    out = held_out(table["image_id"].to_pylist(), direction.holdout, direction.seed)
    return _Filtered(
        ids=table["image_id"],
        labels=labels[rows],
        confidence=probabilities.gather(1, labels[:, None])[rows, 0],
        gap=gap[rows],
        answers=answers,
        out=out & ~answers.closed,
    )


def _scan(
    direction: _Filter, number: int, uri_own: str, uri_other: str
) -> tuple[Tensor, TopOfPart]:
    """Return how many of each class a part keeps, and its highest gaps of each class."""
    part = _filter_part(direction, number, uri_own, uri_other)
    num_classes = len(direction.pool.classes)
    is_open = torch.from_numpy(part.open)
    top = top_of_part(
        part.ids.filter(pa.array(part.open)),
        part.labels[is_open],
        part.gap[is_open],
        part=number,
        num_classes=num_classes,
        per_class=direction.min_kept,
    )
    kept = torch.from_numpy(part.clean | part.answers.labeled)
    return torch.bincount(part.labels[kept], minlength=num_classes), top


def _rescued(
    scanned: Sequence[tuple[Tensor, TopOfPart]], *, num_classes: int, min_kept: int
) -> set[str]:
    """Return the images with the highest gaps of classes that kept fewer than `min_kept`."""
    counts = torch.stack([kept for kept, _ in scanned]).sum(dim=0)
    tops = [top for _, top in scanned]
    best = merge_top(tops, num_classes=num_classes, per_class=min_kept)
    return {image for image, label in best.items() if counts[label] < min_kept}


def _write_filtered(
    target: Target, direction: _Filter, uri_own: str, uri_other: str, rescued: set[str]
) -> int:
    """Write one part: each label with whether it was kept, and the reason."""
    part = _filter_part(direction, target.number, uri_own, uri_other)
    is_rescued = np.array([image in rescued for image in part.ids.to_pylist()], bool)
    reasons = np.select(
        [part.answers.labeled, part.answers.none_fits, part.out, part.clean, is_rescued],
        [Reason.ANSWERED, Reason.NONE_FITS, Reason.HELD_OUT, Reason.KEPT, Reason.RESCUED],
        Reason.REJECTED,
    )
    rows = labels_table(
        part.ids,
        direction.source,
        part.labels,
        part.confidence,
        classes=direction.pool.classes,
        kept=part.answers.labeled | part.clean | is_rescued,
        gap=part.gap,
        reasons=reasons.tolist(),
    )
    return write_part(target, rows)
