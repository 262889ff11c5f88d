"""Predict with a classifier: Ray actors over the parts of a pool, one row an image."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipcore.classifier import DESCRIPTION, load_classifier
from tasks import shards
from tasks.pixels import BatchSize, batches, distinct_images
from tasks.quarantine import Quarantined
from tasks.specs import (
    CoftSpec,
    EmbeddingsRef,
    InputError,
    ModelRef,
    PoolRef,
    PoolSpec,
    PredictionsRef,
    RuntimeSpec,
)
from tasks.stage import Outcome, once, step
from tasks.sweep import QUARANTINE, sweep
from tasks.tracking import download_bundle, tracking_for
from tasks.vectors import fixed_size_list

KIND = "predictions"
FEATURES = "features"


@dataclass(frozen=True)
class PredictJob:
    """What every actor of one prediction stage is told."""

    model: str
    folder: str
    digest: str
    batch_size: int
    limits: PoolSpec


class PredictActor:
    """A classifier that stays loaded and turns parts of a pool into predictions."""

    def __init__(self, job: PredictJob, device: str) -> None:
        self.job = job
        self.batch_size = BatchSize(job.batch_size)
        with shards.local_copy(job.model) as folder:
            self.classifier = load_classifier(folder, device=device)

    def sweep_part(self, images_uri: str, name: str) -> int:
        """Predict one part of the pool; the predictions are written last."""
        images = distinct_images(images_uri, ["image_id", "uri", "split", "bytes"])
        quarantined = Quarantined("predict")
        features, softmaxes, found = self._predict(images, quarantined)
        kept = images.filter(pa.array(found)).select(["image_id", "uri", "split"])
        facts = {"digest": self.job.digest}
        if quarantined.rows:
            bad = shards.join(self.job.folder, QUARANTINE, name)
            shards.write_table(bad, quarantined.table(), facts)
        vectors = {"image_id": kept["image_id"], "embedding": fixed_size_list(features[found])}
        shards.write_table(shards.join(self.job.folder, FEATURES, name), pa.table(vectors), facts)
        table = _with_predictions(kept, softmaxes[:, found], self.classifier.classes)
        shards.write_table(shards.join(self.job.folder, name), table, facts)
        return int(images.num_rows)

    def _predict(
        self, images: pa.Table, quarantined: Quarantined
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return features (images, dim), softmaxes (members, images, classes), and which exist."""
        members, rows_in = self.classifier.members, images.num_rows
        features = np.zeros((rows_in, members[0].head.in_features), np.float32)
        softmaxes = np.zeros((len(members), rows_in, len(self.classifier.classes)), np.float32)
        found = np.zeros(rows_in, bool)
        for rows, pixels in batches(
            images,
            self.classifier.preprocess,
            quarantined,
            batch_size=self.job.batch_size,
            limits=self.job.limits,
        ):
            seen, chances = self.batch_size.run(self.classifier.members_see, pixels)
            features[rows], softmaxes[:, rows], found[rows] = seen.numpy(), chances.numpy(), True
        return features, softmaxes, found


@step("predict")
def predict_pool(model: ModelRef, pool: PoolRef, spec: CoftSpec) -> PredictionsRef:
    """Write the class probabilities of every image of a pool, test split included."""
    limits, runtime = spec.pool, spec.runtime
    digest = shards.fingerprint(KIND, model.digest, pool.digest, limits.max_pixels)
    folder = shards.join(runtime.workspace, KIND, digest)
    job = PredictJob(model.uri, folder, digest, runtime.batch_size, limits)
    manifest, resumed = once(
        folder,
        kind=KIND,
        digest=digest,
        label="Predict",
        compute=lambda: _sweep(job, pool, runtime),
    )
    return PredictionsRef(
        uri=folder,
        digest=digest,
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        num_quarantined=int(str(manifest.facts["quarantined"])),
    )


@step("find model")
def find_model(uri: str, runtime: RuntimeSpec) -> ModelRef:
    """Find a model by registry URI (`models:/NAME@champion`, `models:/NAME/3`) or by its folder.

    A registered one is copied into the workspace, where every worker can read it.
    """
    if not uri.startswith("models:/"):
        description = shards.join(uri, DESCRIPTION)
        if not shards.exists(description):
            raise InputError(
                f"{shards.redact(uri)}: expected models:/NAME@ALIAS or the folder of a model, "
                f"found no {DESCRIPTION} there. `coft models list` shows what is registered."
            )
        names = [DESCRIPTION, *shards.read_json(description)["members"]]
        return ModelRef(uri=shards.absolute(uri), digest=_model_digest(uri, names))
    with tempfile.TemporaryDirectory(prefix="coft-model-") as temporary:
        bundle = download_bundle(tracking_for(runtime.workspace), uri, into=Path(temporary))
        names = sorted((path.name for path in bundle.iterdir()), reverse=True)  # JSON last
        digest = _model_digest(str(bundle), names)
        folder = shards.join(runtime.workspace, "models", digest)
        for name in names:
            if not shards.exists(shards.join(folder, name)):
                shards.write_bytes(shards.join(folder, name), (bundle / name).read_bytes())
    return ModelRef(uri=folder, digest=digest)


def _model_digest(folder: str, names: Sequence[str]) -> str:
    """Return what changes with any byte of a model's files."""
    contents = {name: shards.content_hash(shards.join(folder, name)) for name in sorted(names)}
    return shards.fingerprint(KIND, contents)


def features_of(predictions: PredictionsRef, *, dim: int) -> EmbeddingsRef:
    """Return the features that the classifier's first member saw while it predicted."""
    return EmbeddingsRef(
        uri=shards.join(predictions.uri, FEATURES),
        digest=predictions.digest,
        rows=predictions.rows,
        dim=dim,
        model="adapted",
    )


def _sweep(job: PredictJob, pool: PoolRef, runtime: RuntimeSpec) -> Outcome:
    """Predict what is missing; the features get a manifest of their own, for their readers."""
    outcome = sweep(PredictActor, job, pool, runtime, label="Predict")
    folder = shards.join(job.folder, FEATURES)
    once(folder, kind="embeddings", digest=job.digest, label="Features", compute=lambda: outcome)
    return outcome


def _with_predictions(
    images: pa.Table, softmaxes: np.ndarray, classes: tuple[str, ...]
) -> pa.Table:
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
    return images
