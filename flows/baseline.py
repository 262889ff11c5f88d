"""The main job by another method than CoFT: one of the arena."""

from prefect import flow

from flows.delivery import deliver
from tasks.backbone import check_method_fits, find_backbone
from tasks.baseline import fit_baseline
from tasks.embed import embed_pool
from tasks.label.people import known_answers
from tasks.label.zero_shot import label_zero_shot
from tasks.plan.facts import Plan
from tasks.plan.make import follow
from tasks.plan.settings import check_settings
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.refs import RunSummary, Stages
from tasks.run import tracked
from tasks.sentences.embedded import embed_sentences
from tasks.sentences.given import given_sentences
from tasks.specs import CoftSpec
from tasks.tracking.turns import in_turn


@flow(name="baseline")
@in_turn
def baseline(spec: CoftSpec, plan: Plan | None = None) -> RunSummary:
    """Run a method of `clipcore.baselines` from unlabelled images to a registered model."""
    check_settings(spec)
    check_method_fits(spec.method, spec.backbone.name)
    plan = follow(plan, spec, "adapt")
    backbone = find_backbone(spec.backbone, spec.runtime)
    images = open_images(spec.pool, spec.runtime)
    task = open_task(images, spec.pool, spec.runtime)
    answers, sentences = known_answers(images, task, spec), given_sentences(task, backbone, spec)
    with tracked(spec, images, task, backbone, answers=answers, sentences=sentences) as run:
        embeddings = embed_pool(images, backbone, spec)
        text = embed_sentences(task, backbone, spec, sentences)
        zero_shot = label_zero_shot(embeddings, images, task, backbone, spec, sentences)
        model = fit_baseline(text, embeddings, images, task, backbone, spec, answers)
        stages = Stages(
            images=images,
            task=task,
            backbone=backbone,
            embeddings=embeddings,
            sentences=sentences,
            zero_shot=zero_shot,
            answers=answers,
        )
        return deliver(run, model, stages, spec, plan)
