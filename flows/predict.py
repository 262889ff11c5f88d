"""Predict with a model of the registry: one row for every image, in Parquet."""

from prefect import flow

from tasks.pool.open import open_images
from tasks.predict import predict_pool
from tasks.refs import PredictionsRef
from tasks.specs import CoftSpec
from tasks.storage.finished_runs import record_finished
from tasks.tracking.registry_model import find_model


@flow(name="predict")
def predict(spec: CoftSpec, model: str) -> PredictionsRef:
    """Classify a folder or bucket with `models:/NAME@champion` or a model's folder."""
    images = open_images(spec.pool, spec.runtime, for_training=False)
    predictions = predict_pool(find_model(model, spec.runtime), images, spec)
    record_finished(spec.runtime.workspace)
    return predictions
