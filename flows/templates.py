"""Class sentences for images: several sets, weighed on the images, and the best one as a file."""

from prefect import flow

from tasks.backbone import find_backbone
from tasks.embed import embed_pool
from tasks.plan.facts import Plan
from tasks.plan.make import follow
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.refs import SentencesRef
from tasks.sentences.choice import choose_sentences
from tasks.specs import CoftSpec
from tasks.storage.finished_runs import record_finished
from tasks.tracking.turns import in_turn


@flow(name="templates")
@in_turn
def templates(spec: CoftSpec, plan: Plan | None = None) -> SentencesRef:
    """Choose, without labels, the sentences that CLIP knows the classes of these images by.

    Args:
        spec: Images, classes, backbone, and which sets of sentences have to win.
        plan: Of the command that starts this flow; leave it empty.
    """
    follow(plan, spec, "templates")
    backbone = find_backbone(spec.backbone, spec.runtime)
    images = open_images(spec.pool, spec.runtime)
    task = open_task(images, spec.pool, spec.runtime)
    embeddings = embed_pool(images, backbone, spec)
    sentences = choose_sentences(embeddings, images, task, backbone, spec)
    record_finished(spec.runtime.workspace)
    return sentences
