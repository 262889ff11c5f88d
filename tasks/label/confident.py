"""The images that start Phase I: the most confident of each class."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch

from clipcore import cleaning
from tasks.compute.cluster import run_tasks
from tasks.label.people import Unsettled, told
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
from tasks.label.zero_shot import read_zero_shot
from tasks.pool.readers import only_pool
from tasks.refs import AnswersRef, EmbeddingsRef, LabelsRef, PoolRef, Reason
from tasks.specs import CoftSpec, RuntimeSpec
from tasks.storage.columns import class_names, class_numbers, read_features
from tasks.storage.digests import fingerprint
from tasks.storage.stage import Outcome, part_uris, step
from tasks.storage.tables import read_table
from tasks.storage.uris import join


@step("most confident")
def most_confident(
    labels: LabelsRef,
    images: EmbeddingsRef,
    pool: PoolRef,
    spec: CoftSpec,
    answers: AnswersRef | None = None,
) -> LabelsRef:
    """Keep the K most confident images of each class, of the pool split only (CoFT $S^*$).

    A class that no image was predicted as gets the images most probable for it among those left.
    What people answered comes on top, with their labels (CoFT 4.4, the semi-supervised variant).
    """
    per_class = cleaning.resolve_per_class(
        spec.label.per_class,
        num_classes=len(pool.classes),
        minimum_total=spec.label.min_confident,
    )
    runtime = spec.runtime
    digest = fingerprint(KIND, "confident", labels.digest, per_class, *digests(answers))
    folder = join(runtime.workspace, KIND, digest)

    def compute() -> Outcome:
        parts = list(enumerate(part_uris(labels.uri)))
        free = Unsettled(pool, answers)
        scan = [(free, per_class, *part) for part in parts]
        found = [result for _, result in run_tasks(_top_of_part, scan, runtime=runtime)]
        chosen = merge_top(found, num_classes=len(pool.classes), per_class=per_class)
        empty = sorted(set(range(len(pool.classes))) - set(chosen.values()))
        most = len(chosen) + per_class
        scored = _score_empty_classes(empty, most, labels, images, free, runtime)
        extra = _fill_empty(scored, chosen, empty=empty, per_class=per_class)
        items = [
            (Target(folder, digest, number), free, uri, set(chosen), extra) for number, uri in parts
        ]
        return each_part(
            _write_confident, items, label="Choose confident", total=labels.rows, runtime=runtime
        )

    return labels_once(folder, digest, "confident", compute)


def _top_of_part(free: Unsettled, per_class: int, number: int, uri: str) -> Candidates:
    """Return the shard's most confident images of each class, of those that nobody settled."""
    table = free.among(read_table(uri, ["image_id", "label", "confidence"]), number)
    labels = class_numbers(free.pool.classes, table["label"])
    confidence = torch.from_numpy(table["confidence"].to_numpy().copy())
    return candidates(
        table["image_id"],
        labels,
        confidence,
        shard=number,
        num_classes=len(free.pool.classes),
        per_class=per_class,
    )


def _score_empty_classes(
    empty: list[int],
    most: int,
    labels: LabelsRef,
    images: EmbeddingsRef,
    free: Unsettled,
    runtime: RuntimeSpec,
) -> list[tuple[float, str, int]]:
    """Return (probability, image id, class) of the images most probable for classes without any."""
    if not empty:
        return []
    parts = enumerate(part_uris(images.uri))
    scan = [(labels.uri, free, empty, most, *part) for part in parts]
    return [row for _, rows in run_tasks(_score_empty, scan, runtime=runtime) for row in rows]


def _fill_empty(
    scored: list[tuple[float, str, int]],
    chosen: Mapping[str, int],
    *,
    empty: list[int],
    per_class: int,
) -> dict[str, int]:
    """Return image id -> class for the empty classes; no image is used twice."""
    taken = set(chosen)
    extra: dict[str, int] = {}
    for label in empty:
        ranked = sorted((-score, image) for score, image, k in scored if k == label)
        free = [image for _, image in ranked if image not in taken][:per_class]
        extra.update(dict.fromkeys(free, label))
        taken.update(free)
    return extra


def _score_empty(
    labels_uri: str,
    free: Unsettled,
    empty: list[int],
    most: int,
    number: int,
    uri: str,
) -> list[tuple[float, str, int]]:
    embeddings, scale = read_zero_shot(labels_uri)
    ids, features = read_features(uri)
    table = free.among(pa.table({"image_id": ids, "row": np.arange(len(ids))}), number)
    rows = torch.from_numpy(table["row"].to_numpy().copy())
    probabilities = (scale * features[rows] @ embeddings.T).softmax(dim=1)
    best = []
    for label in empty:
        scores, positions = probabilities[:, label].topk(min(most, len(rows)))
        names = [table["image_id"][position].as_py() for position in positions.tolist()]
        best += list(zip(scores.tolist(), names, [label] * len(names), strict=True))
    return best


def _write_confident(  # a Ray task takes plain values
    target: Target, free: Unsettled, uri: str, chosen: set[str], extra: dict[str, int]
) -> tuple[str, int, int]:
    pool = free.pool
    table = only_pool(read_table(uri), pool.uri, target.number)
    ids = table["image_id"].to_pylist()
    heard = told(free.answers, table["image_id"], pool.classes)
    numbers = class_numbers(pool.classes, table["label"])
    filled = np.array([image in extra for image in ids], bool)
    numbers[filled] = torch.tensor([extra[image] for image in ids if image in extra]).long()
    numbers = torch.where(heard.labels >= 0, heard.labels, numbers)
    top = np.array([image in chosen for image in ids], bool)
    confidence = torch.from_numpy(table["confidence"].to_numpy().copy())
    confidence[heard.labels >= 0] = 1.0
    rows = labels_table(
        table["image_id"],
        "confident",
        class_names(pool.classes, numbers),
        confidence,
        kept=heard.named | filled | top,
        reasons=np.select(
            [heard.named, heard.none_fits, filled, top],
            [Reason.ANSWERED, Reason.NONE_FITS, Reason.CLASS_NOT_PREDICTED, Reason.KEPT],
            Reason.NOT_CONFIDENT,
        ).tolist(),
    )
    return write_part(target, rows)
