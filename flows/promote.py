"""Promote a version of a model, if it shows beside the champion that it is no step back."""

from prefect import flow

from tasks.label.people import known_answers
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.predict import predict_pool
from tasks.promotion.compare import compare
from tasks.promotion.contenders import find_contenders
from tasks.promotion.settle import Decision, settle
from tasks.promotion.specs import PromotionSpec
from tasks.specs import CoftSpec
from tasks.storage.finished_runs import record_finished
from tasks.tracking.registry_model import find_model
from tasks.tracking.turns import in_turn


@flow(name="promote")
@in_turn
def promote(spec: PromotionSpec) -> Decision:
    """Compare the candidate, or another version, with the champion, and promote or leave it.

    Args:
        spec: The model, what to compare on, and what counts as better.
    """
    found, runtime = find_contenders(spec), spec.runtime
    comparison = None
    if spec.pool is not None and found.uris:
        about = CoftSpec(pool=spec.pool, answers=spec.answers, runtime=runtime)
        labelled = spec.pool.labels is not None
        images = open_images(spec.pool, runtime, for_training=labelled)
        task = open_task(images, spec.pool, runtime) if labelled else None
        answers = known_answers(images, task, about) if task is not None else None
        models = [find_model(uri, runtime) for uri in found.uris]
        predictions = [predict_pool(model, images, about) for model in models]
        comparison = compare(models, predictions, images, task, answers, spec.gate)
    decision = settle(found, comparison, spec)
    record_finished(runtime.workspace)
    return decision
