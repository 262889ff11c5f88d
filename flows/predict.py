"""Predict with a model of the registry: one row for every image, in Parquet."""

from prefect import flow
from pydantic.json_schema import SkipJsonSchema

from tasks.plan.facts import Plan
from tasks.plan.files import count_files
from tasks.plan.make import follow
from tasks.pool.open import open_images
from tasks.predict import predict_pool, review_predictions
from tasks.refs import Files, PredictionsRef, Ref
from tasks.specs import CoftSpec, PoolSpec, ReviewSpec, RuntimeSpec
from tasks.storage.finished_runs import record_finished
from tasks.tracking.registry_model import find_model
from tasks.tracking.turns import in_turn


@flow(name="predict")
@in_turn
def predict(
    pool: PoolSpec,
    model: str,
    review: ReviewSpec | None = None,
    runtime: RuntimeSpec = RuntimeSpec(),
    plan: SkipJsonSchema[Plan | None] = None,
) -> tuple[PredictionsRef, Files, Ref | None]:
    """Classify a folder or bucket with `models:/NAME@champion` or a model's folder.

    Args:
        pool: The images.
        model: models:/NAME@champion, models:/NAME/3, or the folder of a model.
        review: What a person should look at, which is written beside the predictions.
        runtime: Where the results go, and where to compute.
        plan: Of the command that starts this flow.
    """
    spec = CoftSpec(pool=pool, runtime=runtime)
    plan = follow(plan, spec, "predict", model=model)
    images = open_images(pool, runtime, for_training=False)
    found = find_model(model, runtime)
    predictions = predict_pool(found, images, spec)
    looked_at = None if review is None else review_predictions(predictions, found, review, spec)
    record_finished(runtime.workspace)
    return predictions, count_files(plan, images, predictions.features[0]), looked_at
