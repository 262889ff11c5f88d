"""Predict with a classifier: Ray actors over the parts of a pool, one row an image."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from clipcore.classifier import load_classifier
from clipcore.inference import BatchSize
from tasks.compute.map_parts import map_parts
from tasks.images.pixels import batches, pixels_of_run
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
    limits: PoolSpec
    batch_size: int | None = None
    pixel_cache: int | None = None


class PredictActor:
    """A classifier that stays loaded and turns parts of a pool into predictions."""

    def __init__(self, job: PredictJob, device: str) -> None:
        self.job = job
        with local_copy(job.model) as folder:
            self.classifier = load_classifier(folder, device=device)
        first = self.classifier.encoders[0]
        self.batch_size = BatchSize.fitting(first, asked=job.batch_size)
        self.pixels = pixels_of_run(first.preprocess, job.limits, job.pixel_cache, device=device)

    def write_part(self, images_uri: str, name: str) -> int:
        """Predict one part of the pool; the predictions are written last."""
        images = read_images(images_uri, ["image_id", "uri", "split", "bytes"])
        quarantined = Quarantined("predict")
        rows, features, softmaxes = self._predict(images, quarantined)
        kept = images.take(pa.array(rows)).select(["image_id", "uri", "split"])
        facts = {"digest": self.job.digest}
        if quarantined.rows:
            bad = join(self.job.folder, QUARANTINE, name)
            write_table(bad, quarantined.table(), facts)
        vectors = {"image_id": kept["image_id"], "embedding": fixed_size_list(features)}
        write_table(join(self.job.folder, FEATURES, name), pa.table(vectors), facts)
        table = _with_predictions(kept, softmaxes, self.classifier.classes)
        write_table(join(self.job.folder, name), table, facts)
        return int(images.num_rows)

    def _predict(
        self, images: pa.Table, quarantined: Quarantined
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows of the images that could be read, in order, features and softmaxes.

        These are of shape (images, dim) and (members, images, classes).
        """
        classifier, rows = self.classifier, []
        device, num_members = classifier.encoders[0].device, len(classifier.members)
        features = [torch.zeros(0, classifier.members[0].head.in_features, device=device)]
        softmaxes = [torch.zeros(num_members, 0, len(classifier.classes), device=device)]
        batch_size = self.batch_size.images
        for numbers, pixels in batches(images, self.pixels, quarantined, batch_size=batch_size):
            encoded, probabilities = self.batch_size.run(classifier.predict_members, pixels)
            rows += numbers
            features.append(encoded)
            softmaxes.append(probabilities)
        order = np.argsort(rows)
        return (
            np.array(rows, np.int64)[order],
            torch.cat(features).cpu().numpy()[order],
            torch.cat(softmaxes, dim=1).cpu().numpy()[:, order],
        )


@step("predict")
def predict_pool(model: ModelRef, pool: PoolRef, spec: CoftSpec) -> PredictionsRef:
    """Write the class probabilities of every image of a pool, test split included."""
    limits, runtime = spec.pool, spec.runtime
    digest = fingerprint(Folder.PREDICTIONS, model.digest, pool.digest, limits.max_pixels)
    folder = in_workspace(runtime.workspace, Folder.PREDICTIONS, digest)
    job = PredictJob(model.uri, folder, digest, limits, runtime.batch_size, runtime.pixel_cache)
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
