"""Collaborative fine-tuning (CoFT), from unlabelled images to a registered model."""

from prefect import flow

from flows.delivery import deliver
from tasks.backbone import find_backbone, find_student
from tasks.classifier import combine, zero_shot_model
from tasks.embed import embed_pool, embed_with_peers
from tasks.label.ahead import look_ahead
from tasks.label.confident import most_confident
from tasks.label.cross_filter import cross_filter
from tasks.label.people import known_answers
from tasks.label.zero_shot import label_zero_shot
from tasks.phase1 import adapt_peers
from tasks.phase2 import finetune_each
from tasks.plan.facts import Plan
from tasks.plan.make import follow
from tasks.plan.settings import check_method
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.refs import Phase1Round, Phase2Round, RunSummary, Stages
from tasks.run import tracked
from tasks.sentences.given import given_sentences
from tasks.specs import CoftSpec
from tasks.tracking.turns import in_turn


@flow(name="coft")
@in_turn
def coft(spec: CoftSpec, plan: Plan | None = None) -> RunSummary:
    """Run CoFT (https://arxiv.org/abs/2602.04337) from unlabelled images to a registered model.

    Each line is a step of the paper. Each value is a reference to finished files, so the flow
    carries no tensors, and a second run goes on where the first one stopped.
    """
    check_method(spec, "coft", "zero-shot")
    plan = follow(plan, spec, "adapt")
    backbone = find_backbone(spec.backbone, spec.runtime)
    student = find_student(spec, backbone)
    images = open_images(spec.pool, spec.runtime)
    task = open_task(images, spec.pool, spec.runtime)
    answers, sentences = known_answers(images, task, spec), given_sentences(task, backbone, spec)
    with tracked(spec, images, task, backbone, answers=answers, sentences=sentences) as run:
        embeddings = embed_pool(images, backbone, spec)
        zero_shot = label_zero_shot(embeddings, images, task, backbone, spec, sentences)
        stages = Stages(
            images=images,
            task=task,
            backbone=backbone,
            embeddings=embeddings,
            sentences=sentences,
            zero_shot=zero_shot,
        )
        if spec.method == "zero-shot":
            model = zero_shot_model(zero_shot, task, backbone, spec)
            return deliver(run, model, stages, spec, plan)
        look_ahead(zero_shot, embeddings, images, task, backbone, spec)

        # Phase I: two peers, seeded apart, learn prompts and an adapter on the confident set.
        confident = most_confident(zero_shot, embeddings, images, task, spec, answers)
        peers = adapt_peers([confident], images, task, backbone, spec, run)

        # Collaboration: each peer labels the images; the other keeps what it holds to be right.
        features = embed_with_peers(images, backbone, peers, spec)
        clean = cross_filter(peers, features, images, task, spec, answers)

        # Phase II: each clean set trains one whole visual tower and its linear head.
        networks = finetune_each(clean, peers, images, task, student, spec, run, sentences)
        model = combine(networks, zero_shot, embeddings, images, task, student, spec)

        phase1 = Phase1Round(confident=(confident,), peers=peers, features=features)
        phase2 = Phase2Round(clean=clean, networks=networks)
        made = {"answers": answers, "phase1": (phase1,), "phase2": (phase2,)}
        return deliver(run, model, stages.model_copy(update=made), spec, plan)
