"""Two peers filter each other's labels: one labels, the other keeps or rejects (CoFT 3.2)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
    labelling_facts,
    labels_once,
    labels_table,
    merge_top,
    top_of_part,
    write_part,
)
from tasks.pool.shards import Shard, shards
from tasks.refs import AnswersRef, EmbeddingsRef, ImagesRef, LabelsRef, PeerRef, Reason, TaskRef
from tasks.specs import CoftSpec
from tasks.storage.columns import class_numbers, tensor_of
from tasks.storage.digests import fingerprint
from tasks.storage.files import exists, remove
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.ranges import keys_in
from tasks.storage.schemas import LABELS
from tasks.storage.stage import Outcome, step
from tasks.storage.store import read_keys
from tasks.storage.tables import read_table, write_table
from tasks.storage.uris import join
from tasks.weights import read_dual_head

SAID = "said"  # folder of an unfinished labelling: parts that do not know of the others


@step("cross-filter")
def cross_filter(  # noqa: PLR0913  # what decides about a label
    peers: Sequence[PeerRef],
    features: Sequence[EmbeddingsRef],
    images: ImagesRef,
    task: TaskRef,
    spec: CoftSpec,
    answers: AnswersRef | None = None,
    *,
    proposed: LabelsRef | None = None,
) -> tuple[LabelsRef, ...]:
    """Label the pool with each peer and keep what the other peer does not reject (CoFT 3.2).

    `collaboration.judge` may let each peer judge its own labels instead, as a single peer does, or
    nobody: comparisons that the paper does not have. What people answered is in all clean sets,
    with their labels (CoFT 4.4).

    Args:
        peers: Both peers of Phase I, or the only one.
        features: The images as each of them sees them.
        images: The images.
        task: The classes.
        spec: `phase2.holdout` and `phase2.min_kept`, who judges, the seed, and where to run.
        answers: People's answers, if there are any.
        proposed: Labels of the pool that both peers judge in place of each other's own.

    Returns:
        The labelling of each peer: kept labels, and a reason for each.
    """
    about = (peers, features, images, task, spec, answers, proposed)
    return tuple(_filter_labels_of(own, *about) for own in range(len(peers)))


def held_out(image_ids: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Return which images are held out: a fixed share, decided by each id and the seed alone."""
    prefix = f"{seed} ".encode()
    draws = [blake2b(prefix + image.encode(), digest_size=8).digest() for image in image_ids]
    return np.frombuffer(b"".join(draws), ">u8") < share * 2**64


@dataclass(frozen=True)
class _Filter:
    """One direction of the cross-filter: `own` labels, `other` keeps or rejects, if it `judges`.

    A shard has the features of both, and the labels that are judged unless they are those of `own`.
    """

    classes: tuple[str, ...]
    own: str
    other: str
    source: str
    holdout: float
    seed: int
    min_kept: int
    judges: bool
    answers: AnswersRef | None


def _filter_labels_of(  # noqa: PLR0913, PLR0917  # as `cross_filter`
    own: int,
    peers: Sequence[PeerRef],
    features: Sequence[EmbeddingsRef],
    images: ImagesRef,
    task: TaskRef,
    spec: CoftSpec,
    answers: AnswersRef | None,
    proposed: LabelsRef | None,
) -> LabelsRef:
    judge, source, runtime = spec.collaboration.judge, f"peer-{own + 1}", spec.runtime
    other = own if judge == "own" or len(peers) == 1 else 1 - own
    min_kept, holdout = spec.phase2.min_kept, spec.phase2.holdout
    labels = [] if proposed is None else [proposed]
    inputs = [stage.digest for stage in (*peers, *features, *labels)]
    judging = [] if judge == "other" else [judge]
    settings = (min_kept, holdout, spec.seed, *digests(answers), *judging)
    digest = fingerprint(Folder.LABELS, source, inputs, *settings)
    folder = in_workspace(runtime.workspace, Folder.LABELS, digest)
    direction = _Filter(
        classes=task.classes,
        own=peers[own].uri,
        other=peers[other].uri,
        source=source,
        holdout=holdout,
        seed=spec.seed,
        min_kept=min_kept,
        judges=judge != "none",
        answers=answers,
    )

    def compute() -> Outcome:
        parts = shards(images, features[own], features[other], *labels)
        said = [join(folder, SAID, part.span.file_name(digest)) for part in parts]
        scans = [(direction, *pair) for pair in zip(parts, said, strict=True)]
        scanned = (result for _, result in run_tasks(_scan, scans, runtime=runtime))
        rescued = _rescued(scanned, num_classes=len(task.classes), min_kept=min_kept)
        items = [
            (Target(folder, digest, part.span), uri, set(keys_in(rescued, part.span)))
            for part, uri in zip(parts, said, strict=True)
        ]
        outcome = label_parts(
            _write_filtered,
            items,
            label=f"Cross-filter {source}",
            total=features[own].rows,
            runtime=runtime,
            about=labelling_facts(images, task),
        )
        remove(join(folder, SAID))
        return outcome

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
        judged: Whether the gap decides; else all labels are held to be right.
        out: Where an image is held out; never where a person decided.
    """

    ids: pa.Array
    labels: Tensor
    confidence: Tensor
    gap: Tensor
    answers: Answers
    judged: bool
    out: np.ndarray

    @property
    def open(self) -> np.ndarray:
        """Return where the peers decide."""
        is_open: np.ndarray = ~(self.answers.closed | self.out)
        return is_open

    @property
    def clean(self) -> np.ndarray:
        """Return where the other peer holds the label to be right."""
        if not self.judged:
            return self.open
        clean: np.ndarray = cleaning.cross_filter(self.gap).numpy() & self.open
        return clean


def _filter_part(direction: _Filter, part: Shard) -> _Filtered:
    seen = replace(part, stages=part.stages[:2])
    ids, (features, other_features) = seen.features_of_all("pool")
    answers = answers_about(ids, direction.answers, direction.classes)
    probabilities = read_dual_head(direction.own).positive.probabilities(features)
    labels = probabilities.argmax(dim=1)
    for proposed in part.stages[2:]:
        table = read_keys(ids, proposed, "image_id", ["label"])
        labels = class_numbers(direction.classes, table["label"])
    labels = torch.where(answers.labels >= 0, answers.labels, labels)
    gap = read_dual_head(direction.other).gap(other_features, labels)
    out = held_out(ids.to_pylist(), direction.holdout, direction.seed)
    return _Filtered(
        ids=ids,
        labels=labels,
        confidence=probabilities.gather(1, labels[:, None])[:, 0],
        gap=gap,
        answers=answers,
        judged=direction.judges,
        out=out & ~answers.closed,
    )


def _scan(direction: _Filter, part: Shard, uri: str) -> tuple[Tensor, TopOfPart]:
    """Write what the peers say of one part, and return what decides about its rescued labels.

    That is how many of each class it keeps, and its highest gaps of each class.
    """
    if not exists(uri):
        write_table(uri, _said(direction, _filter_part(direction, part)))
    table = read_table(uri, ["image_id", "label", "gap", "kept", "reason"])
    classes = direction.classes
    labels = class_numbers(classes, table["label"])
    kept = tensor_of(table, "kept")
    is_open = pc.is_in(table["reason"], pa.array([Reason.KEPT, Reason.REJECTED], pa.string()))
    candidates = table.filter(is_open)
    top = top_of_part(
        candidates["image_id"],
        class_numbers(classes, candidates["label"]),
        tensor_of(candidates, "gap"),
        num_classes=len(classes),
        per_class=direction.min_kept,
    )
    return torch.bincount(labels[kept], minlength=len(classes)), top


def _said(direction: _Filter, found: _Filtered) -> pa.Table:
    """Return each label with whether the peers keep it, and the reason."""
    reasons = np.select(
        [found.answers.labeled, found.answers.none_fits, found.out, found.clean],
        [Reason.ANSWERED, Reason.NONE_FITS, Reason.HELD_OUT, Reason.KEPT],
        Reason.REJECTED,
    )
    return labels_table(
        found.ids,
        direction.source,
        found.labels,
        found.confidence,
        classes=direction.classes,
        kept=found.answers.labeled | found.clean,
        gap=found.gap,
        reasons=reasons.tolist(),
    )


def _rescued(
    scanned: Iterable[tuple[Tensor, TopOfPart]], *, num_classes: int, min_kept: int
) -> list[str]:
    """Return the images with the highest gaps of classes that kept fewer than `min_kept`, by id."""
    counts = torch.zeros(num_classes, dtype=torch.long)

    def tops() -> Iterator[TopOfPart]:
        for kept, top in scanned:
            counts.add_(kept)
            yield top

    best = merge_top(tops(), num_classes=num_classes, per_class=min_kept)
    return sorted(image for image, label in best.items() if counts[label] < min_kept)


def _write_filtered(target: Target, said: str, rescued: set[str]) -> int:
    """Write one part: what the peers said, and the labels that are kept all the same."""
    table = read_table(said)
    is_rescued = pc.and_(
        pc.is_in(table["image_id"], pa.array(sorted(rescued), pa.string())),
        pc.equal(table["reason"], Reason.REJECTED),
    )
    columns = {
        "kept": pc.or_(table["kept"], is_rescued),
        "reason": pc.if_else(is_rescued, Reason.RESCUED.value, table["reason"]),
    }
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    rows = write_part(target, table.cast(LABELS))
    remove(said)
    return rows
