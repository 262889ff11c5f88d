"""Predict with a classifier: features of its towers, computed once, and its heads on them."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from clipcore.energy import ENOUGH, energies, none_of_these, quantiles
from tasks.answers.review import write_review
from tasks.compute.calls import run_tasks
from tasks.compute.map_parts import write_missing
from tasks.features.embedding import embed
from tasks.features.towers import towers_of
from tasks.pool.readers import value_of
from tasks.pool.shards import ID, Shard, shards
from tasks.refs import ImagesRef, ModelRef, PredictionsRef, Ref
from tasks.specs import CoftSpec, ReviewSpec
from tasks.storage.checkpoints import read_tensors, write_tensors
from tasks.storage.digests import classes_digest, fingerprint
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION, ENERGIES, Folder, in_workspace
from tasks.storage.manifest import Part
from tasks.storage.schemas import PREDICTIONS
from tasks.storage.stage import Outcome, once, step
from tasks.storage.tables import count_rows, write_table
from tasks.storage.uris import join
from tasks.weights import logits_of, write_heads

POOL = "pool.safetensors"
OWN_POOL = "images of the model's own pool, that it was not trained on"
THESE = "these images themselves, as the model has no record of its pool"


@step("predict")
def predict_pool(model: ModelRef, images: ImagesRef, spec: CoftSpec) -> PredictionsRef:
    """Write the class probabilities of every image, test split included.

    What a tower of the classifier has seen before, for whatever reason, it does not see again.
    """
    runtime = spec.runtime
    features = embed(images, towers_of(model), spec, label="Predict")
    made_from = (model.digest, [seen.digest for seen in features])
    digest = fingerprint(Folder.PREDICTIONS, *made_from)
    folder = in_workspace(runtime.workspace, Folder.PREDICTIONS, digest)
    description = read_json(join(model.uri, DESCRIPTION))
    classes, pool = tuple(description["classes"]), description["facts"].get(ENERGIES) or []

    def compute() -> Outcome:
        parts = {part.span.file_name(digest): part for part in shards(images, *features)}
        job = (model.uri, folder, pool, () if pool else tuple(parts.values()))
        list(run_tasks(_prepare, [job], runtime=runtime))
        work = {join(folder, name): (folder, name, part, classes) for name, part in parts.items()}
        write_missing(_predict_part, work, runtime, label="Classify", total=features[0].rows)
        return Outcome(
            [Part(name=name, rows=count_rows(join(folder, name))) for name in parts],
            {
                "images": images.digest,
                "classes": classes_digest(classes),
                "embedding": sum(seen.seconds for seen in features if not seen.resumed),
            },
        )

    manifest, resumed = once(
        folder, kind=Folder.PREDICTIONS, digest=digest, label="Classify", compute=compute
    )
    return PredictionsRef(
        uri=folder,
        digest=digest,
        rows=manifest.rows,
        seconds=manifest.seconds + float(str(manifest.facts["embedding"])),
        resumed=resumed,
        num_quarantined=images.num_pool + images.num_test - manifest.rows,
        features=features,
        compared_with=OWN_POOL if pool else THESE,
    )


@step("review")
def review_predictions(
    predictions: PredictionsRef, model: ModelRef, review: ReviewSpec, spec: CoftSpec
) -> Ref:
    """Write what a person should look at: a contact sheet, and tasks for Label Studio."""
    job = (predictions, model, review, spec.pool.max_pixels)
    ((_, written),) = run_tasks(write_review, [job], runtime=spec.runtime)
    return cast("Ref", written)


def _prepare(model: str, folder: str, pool: Sequence[float], parts: Sequence[Shard]) -> None:
    """Write the heads of a classifier, and the energies to compare with.

    Args:
        model: Folder of the classifier.
        folder: Where they are written.
        pool: The energies of the model's pool, if they are known.
        parts: Else the images whose energies count; ids are hashes, so the first are a fair sample.
    """
    write_heads(model, folder)
    seen: list[Tensor] = []
    for part in parts:
        if sum(map(len, seen)) >= ENOUGH:
            break
        seen.append(energies(logits_of(folder, part.features_of_all()[1])))
    pool = pool or quantiles(torch.cat(seen) if seen else torch.zeros(0)) or [0.0, 0.0]
    write_tensors(folder, POOL, {ENERGIES: torch.tensor(pool)}, {})


def _predict_part(folder: str, name: str, part: Shard, classes: tuple[str, ...]) -> int:
    """Write the predictions for one part of the images."""
    ids, seen = part.features_of_all()
    logits = logits_of(folder, seen)
    images = part.read_images([ID, "uri", "split"])
    kept = pa.table({ID: ids, **{c: value_of(images, ids, c) for c in ("uri", "split")}})
    pool = read_tensors(folder, POOL)[0][ENERGIES]
    foreign = none_of_these(energies(logits), pool).numpy()
    table = with_predictions(kept, logits.softmax(dim=2).numpy(), foreign, classes)
    write_table(join(folder, name), table)
    return len(ids)


def with_predictions(
    images: pa.Table, softmaxes: np.ndarray, foreign: np.ndarray, classes: tuple[str, ...]
) -> pa.Table:
    """Add the first two classes, their probabilities and all others, and each member's own label.

    Args:
        images: A row for each, with its columns of the schema.
        softmaxes: Of shape (members, images, classes).
        foreign: What `none_of_these` returned.
        classes: Their names.
    """
    names, mean = np.array(classes, dtype=object), softmaxes.mean(axis=0)
    members = softmaxes.argmax(axis=2).T
    columns = {
        **first_two(mean, classes),
        "none_of_these": pa.array(foreign, pa.float32()),
        "probabilities": pa.array(list(mean), pa.list_(pa.float32())),
        "member_labels": pa.array([list(names[row]) for row in members], pa.list_(pa.string())),
    }
    for name, column in columns.items():
        images = images.append_column(name, column)
    return images.cast(PREDICTIONS)


def first_two(probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, pa.Array]:
    """Return the most probable class of each row, the second one, and how probable both are."""
    names = np.array([*classes, None], dtype=object)  # the last: no second one where one is all
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    padded = np.pad(probabilities, ((0, 0), (0, 1)), constant_values=np.nan)
    first, second = order[:, 0], order[:, 1] if len(classes) > 1 else order[:, 0] + 1
    rows = np.arange(len(probabilities))
    return {
        "label": pa.array(names[first], pa.string()),
        "confidence": pa.array(probabilities[rows, first], pa.float32()),
        "runner_up": pa.array(names[second], pa.string()),
        "runner_up_confidence": pa.array(padded[rows, second], pa.float32(), from_pandas=True),
    }
