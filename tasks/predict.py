"""Predict with a classifier: Ray actors over the parts of a pool, one row an image."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clipcore.classifier import load_classifier
from tasks.compute.map_parts import map_parts
from tasks.images.pixels import BatchSize, batches
from tasks.images.quarantine import Quarantined
from tasks.pool.readers import read_images
from tasks.refs import EmbeddingsRef, ModelRef, PoolRef, PredictionsRef
from tasks.specs import CoftSpec, PoolSpec, RuntimeSpec
from tasks.storage.columns import fixed_size_list
from tasks.storage.digests import fingerprint
from tasks.storage.files import local_copy
from tasks.storage.layout import FEATURES, QUARANTINE, Folder, in_workspace
from tasks.storage.schemas import PREDICTIONS
from tasks.storage.stage import Outcome, once, step
from tasks.storage.tables import write_table
from tasks.storage.uris import join


@dataclass(frozen=True)
class PredictJob:
    """The inputs of a prediction stage, for its actors."""

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
        with local_copy(job.model) as folder:
            self.classifier = load_classifier(folder, device=device)

    def write_part(self, images_uri: str, name: str) -> int:
        """Predict one part of the pool; the predictions are written last."""
        images = read_images(images_uri, ["image_id", "uri", "split", "bytes"])
        quarantined = Quarantined("predict")
        features, softmaxes, readable = self._predict(images, quarantined)
        kept = images.filter(pa.array(readable)).select(["image_id", "uri", "split"])
        facts = {"digest": self.job.digest}
        if quarantined.rows:
            bad = join(self.job.folder, QUARANTINE, name)
            write_table(bad, quarantined.table(), facts)
        vectors = {"image_id": kept["image_id"], "embedding": fixed_size_list(features[readable])}
        write_table(join(self.job.folder, FEATURES, name), pa.table(vectors), facts)
        table = _with_predictions(kept, softmaxes[:, readable], self.classifier.classes)
        write_table(join(self.job.folder, name), table, facts)
        return int(images.num_rows)

    def _predict(
        self, images: pa.Table, quarantined: Quarantined
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return features (images, dim), softmaxes (members, images, classes), and which exist."""
        members, rows_in = self.classifier.members, images.num_rows
        features = np.zeros((rows_in, members[0].head.in_features), np.float32)
        softmaxes = np.zeros((len(members), rows_in, len(self.classifier.classes)), np.float32)
        readable = np.zeros(rows_in, bool)
        for rows, pixels in batches(
            images,
            self.classifier.preprocess,
            quarantined,
            batch_size=self.job.batch_size,
            limits=self.job.limits,
        ):
            encoded, probabilities = self.batch_size.run(self.classifier.predict_members, pixels)
            features[rows], softmaxes[:, rows], readable[rows] = (
                encoded.numpy(),
                probabilities.numpy(),
                True,
            )
        return features, softmaxes, readable


@step("predict")
def predict_pool(model: ModelRef, pool: PoolRef, spec: CoftSpec) -> PredictionsRef:
    """Write the class probabilities of every image of a pool, test split included."""
    limits, runtime = spec.pool, spec.runtime
    digest = fingerprint(Folder.PREDICTIONS, model.digest, pool.digest, limits.max_pixels)
    folder = in_workspace(runtime.workspace, Folder.PREDICTIONS, digest)
    job = PredictJob(model.uri, folder, digest, runtime.batch_size, limits)
    manifest, resumed = once(
        folder,
        kind=Folder.PREDICTIONS,
        digest=digest,
        label="Predict",
        compute=lambda: _predict_missing(job, pool, runtime),
    )
    return PredictionsRef(
        uri=folder,
        digest=digest,
        rows=manifest.rows,
        seconds=manifest.seconds,
        resumed=resumed,
        num_quarantined=int(str(manifest.facts["quarantined"])),
    )


def features_of(predictions: PredictionsRef, *, dim: int) -> EmbeddingsRef:
    """Return the features that the classifier's first member saw while it predicted."""
    return EmbeddingsRef(
        uri=join(predictions.uri, FEATURES),
        digest=predictions.digest,
        rows=predictions.rows,
        dim=dim,
        model="adapted",
    )


def _predict_missing(job: PredictJob, pool: PoolRef, runtime: RuntimeSpec) -> Outcome:
    """Predict what is missing; the features get a manifest of their own, for their readers."""
    outcome = map_parts(PredictActor, job, pool, runtime, label="Predict")
    folder = join(job.folder, FEATURES)
    once(
        folder, kind=Folder.EMBEDDINGS, digest=job.digest, label="Features", compute=lambda: outcome
    )
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
    return images.cast(PREDICTIONS)
