"""Predict with a model of the registry: one row for every image, in Parquet."""

from prefect import flow

from tasks.plan.facts import Plan
from tasks.plan.files import count_files
from tasks.plan.make import follow
from tasks.pool.open import open_images
from tasks.predict import predict_pool, review_predictions
from tasks.refs import Files, PredictionsRef, Ref
from tasks.specs import CoftSpec, ReviewSpec
from tasks.storage.finished_runs import record_finished
from tasks.tracking.registry_model import find_model
from tasks.tracking.turns import in_turn


@flow(name="predict")
@in_turn
def predict(
    spec: CoftSpec, model: str, plan: Plan | None = None, review: ReviewSpec | None = None
) -> tuple[PredictionsRef, Files, Ref | None]:
    """Classify a folder or bucket with `models:/NAME@champion` or a model's folder.

    Args:
        spec: Images; the rest does not count.
        model: models:/NAME@champion, models:/NAME/3, or the folder of a model.
        plan: Of the command that starts this flow; leave it empty.
        review: What a person should look at, which is written beside the predictions.
    """
    plan = follow(plan, spec, "predict", model=model)
    images = open_images(spec.pool, spec.runtime, for_training=False)
    found = find_model(model, spec.runtime)
    predictions = predict_pool(found, images, spec)
    looked_at = None if review is None else review_predictions(predictions, found, review, spec)
    record_finished(spec.runtime.workspace)
    return predictions, count_files(plan, images, predictions.features[0]), looked_at
