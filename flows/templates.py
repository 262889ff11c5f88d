"""Class sentences for images: several sets, weighed on the images, and the best one as a file."""

from prefect import flow
from pydantic.json_schema import SkipJsonSchema

from tasks.backbone import find_backbone
from tasks.embed import embed_pool
from tasks.plan.facts import Plan
from tasks.plan.make import follow
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.refs import SentencesRef
from tasks.sentences.choice import choose_sentences
from tasks.specs import (
    BackboneSpec,
    CoftSpec,
    LabelSpec,
    PoolSpec,
    RuntimeSpec,
    SentencesSpec,
)
from tasks.storage.finished_runs import record_finished
from tasks.tracking.turns import in_turn


@flow(name="templates")
@in_turn
def templates(  # one group of settings each
    pool: PoolSpec,
    sentences: SentencesSpec = SentencesSpec(),
    label: LabelSpec = LabelSpec(),
    backbone: BackboneSpec = BackboneSpec(),
    runtime: RuntimeSpec = RuntimeSpec(),
    plan: SkipJsonSchema[Plan | None] = None,
) -> SentencesRef:
    """Choose, without labels, the sentences that CLIP knows the classes of these images by.

    Args:
        pool: The images and their class names.
        sentences: Which sets of sentences have to win.
        label: The plain templates that they have to beat.
        backbone: The pretrained CLIP.
        runtime: Where the results go, and where to compute.
        plan: Of the command that starts this flow.
    """
    spec = CoftSpec(pool=pool, sentences=sentences, label=label, backbone=backbone, runtime=runtime)
    follow(plan, spec, "templates")
    clip = find_backbone(backbone, runtime)
    images = open_images(pool, runtime)
    task = open_task(images, pool, runtime)
    embeddings = embed_pool(images, clip, spec)
    chosen = choose_sentences(embeddings, images, task, clip, spec)
    record_finished(runtime.workspace)
    return chosen
