"""The images that start Phase I: the most confident of each class."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch

from clipcore import cleaning
from tasks import shards
from tasks.cluster import run_tasks
from tasks.label.parts import (
    KIND,
    Candidates,
    Target,
    candidates,
    class_numbers,
    each_part,
    labels_once,
    labels_table,
    merge_top,
    only_pool,
    write_part,
)
from tasks.label.zero_shot import read_zero_shot
from tasks.specs import CoftSpec, EmbeddingsRef, LabelsRef, PoolRef, RuntimeSpec
from tasks.stage import Outcome, part_uris, step
from tasks.vectors import read_features

NOT_TOP = "not among the most confident of its class"
NO_CLASS = "taken for a class that no image was predicted as"


@step("most confident")
def most_confident(
    labels: LabelsRef, images: EmbeddingsRef, pool: PoolRef, spec: CoftSpec
) -> LabelsRef:
    """Keep the K most confident images of each class, of the pool split only (CoFT $S^*$).

    A class that no image was predicted as gets the images most probable for it among those left.
    """
    per_class = cleaning.resolve_per_class(
        spec.label.per_class,
        num_classes=len(pool.classes),
        minimum_total=spec.label.min_confident,
    )
    runtime = spec.runtime
    digest = shards.fingerprint(KIND, "confident", labels.digest, per_class)
    folder = shards.join(runtime.workspace, KIND, digest)

    def compute() -> Outcome:
        parts = list(enumerate(part_uris(labels.uri)))
        scan = [(pool.uri, pool.classes, per_class, *part) for part in parts]
        found = [result for _, result in run_tasks(_top_of_part, scan, runtime=runtime)]
        chosen = merge_top(found, num_classes=len(pool.classes), per_class=per_class)
        empty = sorted(set(range(len(pool.classes))) - set(chosen.values()))
        scored = _score_empty_classes(empty, len(chosen) + per_class, labels, images, pool, runtime)
        extra = _fill_empty(scored, chosen, empty=empty, per_class=per_class)
        items = [
            (Target(folder, digest, number), pool, uri, set(chosen), extra) for number, uri in parts
        ]
        return each_part(
            _write_confident, items, label="Choose confident", total=labels.rows, runtime=runtime
        )

    return labels_once(folder, digest, "confident", compute)


def _top_of_part(
    pool_uri: str, classes: tuple[str, ...], per_class: int, number: int, uri: str
) -> Candidates:
    """Return the shard's most confident images of each class, without those of the test split."""
    table = only_pool(shards.read_table(uri, ["image_id", "label", "confidence"]), pool_uri, number)
    labels = class_numbers(classes, table["label"])
    confidence = torch.from_numpy(table["confidence"].to_numpy().copy())
    return candidates(
        table["image_id"],
        labels,
        confidence,
        shard=number,
        num_classes=len(classes),
        per_class=per_class,
    )


def _score_empty_classes(
    empty: list[int],
    most: int,
    labels: LabelsRef,
    images: EmbeddingsRef,
    pool: PoolRef,
    runtime: RuntimeSpec,
) -> list[tuple[float, str, int]]:
    """Return (probability, image id, class) of the images most probable for classes without any."""
    if not empty:
        return []
    parts = enumerate(part_uris(images.uri))
    scan = [(labels.uri, pool.uri, empty, most, *part) for part in parts]
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
    labels_uri: str, pool_uri: str, empty: list[int], most: int, number: int, uri: str
) -> list[tuple[float, str, int]]:
    embeddings, scale = read_zero_shot(labels_uri)
    ids, features = read_features(uri)
    table = only_pool(
        pa.table({"image_id": ids, "row": pa.array(np.arange(len(ids)))}), pool_uri, number
    )
    rows = torch.from_numpy(table["row"].to_numpy().copy())
    probabilities = (scale * features[rows] @ embeddings.T).softmax(dim=1)
    best = []
    for label in empty:
        scores, positions = probabilities[:, label].topk(min(most, len(rows)))
        names = [table["image_id"][position].as_py() for position in positions.tolist()]
        best += list(zip(scores.tolist(), names, [label] * len(names), strict=True))
    return best


def _write_confident(
    target: Target, pool: PoolRef, uri: str, chosen: set[str], extra: dict[str, int]
) -> tuple[str, int, int]:
    table = only_pool(shards.read_table(uri), pool.uri, target.number)
    ids = table["image_id"].to_pylist()
    names = [
        pool.classes[extra[image]] if image in extra else label
        for image, label in zip(ids, table["label"].to_pylist(), strict=True)
    ]
    kept = np.array([image in chosen or image in extra for image in ids], bool)
    reasons = [NO_CLASS if image in extra else "" if image in chosen else NOT_TOP for image in ids]
    confidence = torch.from_numpy(table["confidence"].to_numpy().copy())
    rows = labels_table(
        table["image_id"], "confident", names, confidence, kept=kept, reasons=reasons
    )
    return write_part(target, rows)
