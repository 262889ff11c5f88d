"""The images that start Phase I: the most confident of each class."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipcore import cleaning
from tasks.compute.calls import run_tasks
from tasks.label.by_head import read_head
from tasks.label.people import OpenImages, answers_about
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
from tasks.refs import AnswersRef, EmbeddingsRef, ImagesRef, LabelsRef, Reason, TaskRef
from tasks.specs import CoftSpec, RuntimeSpec
from tasks.storage.columns import class_numbers, matrix_of, tensor_of
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.ranges import keys_in
from tasks.storage.stage import Outcome, step

LABELS, FEATURES = 0, 1  # the stages of a shard

Scored = tuple[float, str, int]  # probability, image id, class number


@step("most confident")
def most_confident(
    labels: LabelsRef,
    embeddings: EmbeddingsRef | None,
    images: ImagesRef,
    task: TaskRef,
    spec: CoftSpec,
    answers: AnswersRef | None = None,
) -> LabelsRef:
    """Keep the K most confident images of each class, of the pool split only (CoFT $S^*$).

    A class that no image was predicted as gets the images most probable for it among those left, by
    the head of the labels. Labels that no head gave come without embeddings: then it gets none.
    What people answered comes on top, with their labels (CoFT 4.4, the semi-supervised variant).
    """
    runtime, num_classes = spec.runtime, len(task.classes)
    per_class = cleaning.resolve_per_class(
        spec.label.top.per_class, num_classes=num_classes, minimum_total=spec.label.top.min_total
    )
    source = "confident" if labels.source == "zero-shot" else f"confident-{labels.source}"
    digest = fingerprint(Folder.LABELS, "confident", labels.digest, per_class, *digests(answers))
    folder = in_workspace(runtime.workspace, Folder.LABELS, digest)

    def compute() -> Outcome:
        parts = shards(images, labels, *([embeddings] if embeddings else []))
        undecided = OpenImages(task.classes, answers)
        scan = [(undecided, per_class, part) for part in parts]
        tops = (top for _, top in run_tasks(_top_of_part, scan, runtime=runtime))
        chosen = merge_top(tops, num_classes=num_classes, per_class=per_class)
        empty = sorted(set(range(num_classes)) - set(chosen.values())) if embeddings else []
        limit = len(chosen) + per_class
        scored = _score_empty_classes(empty, limit, labels, parts, undecided, runtime)
        filled = _fill_empty(scored, chosen, empty=empty, per_class=per_class)
        places, ids = sorted(filled), sorted(chosen)
        items = [
            (
                Target(folder, digest, part.span),
                source,
                undecided,
                part,
                set(keys_in(ids, part.span)),
                {image: filled[image] for image in keys_in(places, part.span)},
            )
            for part in parts
        ]
        return label_parts(
            _write_confident,
            items,
            label="Choose confident",
            total=labels.rows,
            runtime=runtime,
            about=labelling_facts(images, task),
        )

    return labels_once(folder, digest, source, compute)


def _top_of_part(undecided: OpenImages, per_class: int, part: Shard) -> TopOfPart:
    """Return a part's most confident images of each class, of those that nobody decided about."""
    table = undecided.read(part, LABELS, ["image_id", "label", "confidence"])
    classes = undecided.classes
    return top_of_part(
        table["image_id"],
        class_numbers(classes, table["label"]),
        tensor_of(table, "confidence"),
        num_classes=len(classes),
        per_class=per_class,
    )


def _score_empty_classes(
    empty: list[int],
    limit: int,
    labels: LabelsRef,
    parts: Sequence[Shard],
    undecided: OpenImages,
    runtime: RuntimeSpec,
) -> list[Scored]:
    """Return the images most probable for classes that no image was predicted as."""
    if not empty:
        return []
    scan = [(labels.uri, undecided, empty, limit, part) for part in parts]
    return [row for _, rows in run_tasks(_score_empty, scan, runtime=runtime) for row in rows]


def _score_empty(
    labels_uri: str, undecided: OpenImages, empty: list[int], limit: int, part: Shard
) -> list[Scored]:
    """Return, of one part, the `limit` images most probable for each of the empty classes."""
    table = undecided.read(part, FEATURES, ["image_id", "embedding"])
    probabilities = read_head(labels_uri).probabilities(matrix_of(table))
    scored: list[Scored] = []
    for label in empty:
        scores, positions = probabilities[:, label].topk(min(limit, table.num_rows))
        names = table["image_id"].take(pa.array(positions.numpy())).to_pylist()
        scored += zip(scores.tolist(), names, [label] * len(names), strict=True)
    return scored


def _fill_empty(
    scored: list[Scored], chosen: Mapping[str, int], *, empty: list[int], per_class: int
) -> dict[str, int]:
    """Return image id -> class for the empty classes; no image is used twice."""
    taken = set(chosen)
    filled: dict[str, int] = {}
    for label in empty:
        ranked = sorted((-score, image) for score, image, k in scored if k == label)
        best = [image for _, image in ranked if image not in taken][:per_class]
        filled.update(dict.fromkeys(best, label))
        taken.update(best)
    return filled


def _write_confident(  # what is in the rows
    target: Target,
    source: str,
    undecided: OpenImages,
    part: Shard,
    chosen: set[str],
    filled: dict[str, int],
) -> int:
    """Write one part: answers, images of empty classes, the most confident, and the others."""
    classes = undecided.classes
    table = part.read(LABELS, ["image_id", "label", "confidence"], "pool")
    ids = table["image_id"].to_pylist()
    answers = answers_about(table["image_id"], undecided.answers, classes)
    labels = class_numbers(classes, table["label"])
    is_filled = _among(table, filled)
    labels[is_filled] = labels.new_tensor([filled[image] for image in ids if image in filled])
    labels = labels.where(answers.labels < 0, answers.labels)
    is_chosen = _among(table, chosen)
    confidence = tensor_of(table, "confidence")
    confidence[answers.labels >= 0] = 1.0
    reasons = np.select(
        [answers.labeled, answers.none_fits, is_filled, is_chosen],
        [Reason.ANSWERED, Reason.NONE_FITS, Reason.CLASS_NOT_PREDICTED, Reason.KEPT],
        Reason.NOT_CONFIDENT,
    )
    rows = labels_table(
        table["image_id"],
        source,
        labels,
        confidence,
        classes=classes,
        kept=answers.labeled | is_filled | is_chosen,
        reasons=reasons.tolist(),
    )
    return write_part(target, rows)


def _among(table: pa.Table, ids: Collection[str]) -> np.ndarray:
    """Return which rows are about some images."""
    found = pc.is_in(table["image_id"], pa.array(sorted(ids), pa.string()))
    rows: np.ndarray = found.to_numpy()
    return rows
