"""Predict with a classifier: features of its towers, computed once, and its heads on them."""

import numpy as np
import pyarrow as pa
import torch

from tasks.compute.calls import run_tasks
from tasks.compute.map_parts import write_missing
from tasks.features.embedding import embed
from tasks.features.towers import towers_of
from tasks.pool.readers import value_of
from tasks.pool.shards import ID, Shard, shards
from tasks.refs import ImagesRef, ModelRef, PredictionsRef
from tasks.specs import CoftSpec
from tasks.storage.digests import classes_digest, fingerprint
from tasks.storage.files import read_json
from tasks.storage.layout import DESCRIPTION, Folder, in_workspace
from tasks.storage.manifest import Part
from tasks.storage.schemas import PREDICTIONS
from tasks.storage.stage import Outcome, once, step
from tasks.storage.tables import count_rows, write_table
from tasks.storage.uris import join
from tasks.weights import softmaxes_of, write_heads


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
    classes = tuple(read_json(join(model.uri, DESCRIPTION))["classes"])

    def compute() -> Outcome:
        list(run_tasks(write_heads, [(model.uri, folder)], runtime=runtime))
        parts = {part.span.file_name(digest): part for part in shards(images, *features)}
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
    )


def _predict_part(folder: str, name: str, part: Shard, classes: tuple[str, ...]) -> int:
    """Write the predictions for one part of the images."""
    ids, seen = part.features_of_all()
    softmaxes = softmaxes_of(folder, seen)
    images = part.read_images([ID, "uri", "split"])
    kept = pa.table({ID: ids, **{c: value_of(images, ids, c) for c in ("uri", "split")}})
    table = with_predictions(kept, torch.stack(softmaxes).numpy(), classes)
    write_table(join(folder, name), table)
    return len(ids)


def with_predictions(images: pa.Table, softmaxes: np.ndarray, classes: tuple[str, ...]) -> pa.Table:
    """Add the label, its probability, all probabilities, and each member's own label."""
    names = np.array(classes, dtype=object)
    mean = softmaxes.mean(axis=0)
    best = mean.argmax(axis=1) if len(mean) else np.zeros(0, np.int64)
    members = softmaxes.argmax(axis=2).T if len(mean) else np.zeros((0, len(softmaxes)), np.int64)
    columns = {
        "label": pa.array(names[best], pa.string()),
        "score": pa.array(mean[np.arange(len(mean)), best], pa.float32()),
        "probabilities": pa.array(list(mean), pa.list_(pa.float32())),
        "member_labels": pa.array([list(names[row]) for row in members], pa.list_(pa.string())),
    }
    for name, column in columns.items():
        images = images.append_column(name, column)
    return images.cast(PREDICTIONS)
