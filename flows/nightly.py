"""Night after night: look at what is new, adapt if it is enough, and promote if it is better."""

from prefect import flow

from flows.adapt import adapt
from flows.promote import promote
from tasks.backbone import find_backbone
from tasks.embed import embed_pool
from tasks.nightly.change import look, measure_change, model_name, remember
from tasks.nightly.specs import NightlySpec
from tasks.nightly.tell import NightlyResult, post, write_digest
from tasks.pool.open import open_images
from tasks.predict import predict_pool
from tasks.promotion.contenders import find_champion
from tasks.promotion.specs import PromotionSpec
from tasks.refs import EmbeddingsRef, ImagesRef, PredictionsRef
from tasks.storage.finished_runs import record_finished
from tasks.tracking.registry_model import find_model
from tasks.tracking.turns import in_turn


@flow(name="nightly")
@in_turn
def nightly(spec: NightlySpec) -> NightlyResult:
    """List the images, embed what is new, adapt if that is enough, promote or leave, and tell.

    A night that was killed goes on with the next one: what is finished is found, and what was
    adapted and not judged is judged then.

    Args:
        spec: What to adapt to, when it is worth it, and who hears of it.
    """
    run, name = spec.adapt, model_name(spec)
    backbone = find_backbone(run.backbone, run.runtime)
    images = open_images(run.pool, run.runtime)
    embeddings = embed_pool(images, backbone, run)
    champion = find_champion(name, run.runtime)
    predictions = _labels(champion, images, spec) if champion is not None else None
    change = measure_change(images, embeddings, predictions, spec)
    result = NightlyResult(change=change)
    if change.enough:
        result = _adapted(result, images, embeddings, predictions, spec)
    result = result.model_copy(update={"digest": write_digest(result, images, spec)})
    post(result, spec)
    record_finished(run.runtime.workspace)
    return result


def _adapted(
    result: NightlyResult,
    images: ImagesRef,
    embeddings: EmbeddingsRef,
    predictions: PredictionsRef | None,
    spec: NightlySpec,
) -> NightlyResult:
    run, change = spec.adapt, result.change
    summary = adapt(run)
    promotion = PromotionSpec(
        name=model_name(spec),
        version=summary.model_version,
        pool=spec.held_out or run.pool,
        answers=None if spec.held_out else run.answers,
        gate=run.gate,
        prefer_newer=spec.prefer_newer,
        runtime=run.runtime,
    )
    decision = promote(promotion)
    remember(images, spec)
    if predictions is None and summary.model_uri is not None:  # nobody else could say what is new
        labels = _labels(summary.model_uri, images, spec)
        change = look(change, images, None, embeddings, labels)
    return result.model_copy(update={"change": change, "adapted": summary, "decision": decision})


def _labels(model: str, images: ImagesRef, spec: NightlySpec) -> PredictionsRef:
    """Return what a model says of the images; those that it has seen before it does not see."""
    return predict_pool(find_model(model, spec.adapt.runtime), images, spec.adapt)
