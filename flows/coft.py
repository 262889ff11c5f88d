"""Collaborative fine-tuning (CoFT), from a pool of unlabelled images to a registered model."""

from prefect import flow

from tasks.backbone import find_backbone
from tasks.classifier import combine, zero_shot_model
from tasks.embed import embed_pool
from tasks.evaluate import evaluate
from tasks.gate import assess
from tasks.label.confident import most_confident
from tasks.label.cross_filter import cross_filter
from tasks.label.people import known_answers
from tasks.label.zero_shot import label_zero_shot
from tasks.phase1 import adapt_peers
from tasks.phase2 import finetune_each
from tasks.pool.open import open_pool
from tasks.predict import predict_pool
from tasks.publish import publish, register
from tasks.refs import RunSummary, Stages
from tasks.run import tracked
from tasks.specs import CoftSpec


@flow(name="coft")
def coft(spec: CoftSpec) -> RunSummary:
    """Run CoFT (https://arxiv.org/abs/2602.04337) from unlabelled images to a registered model.

    Each line is a step of the paper. Each value is a reference to finished files, so the flow
    carries no tensors, and a second run goes on where the first one stopped.
    """
    backbone = find_backbone(spec.backbone, spec.runtime)
    pool = open_pool(spec.pool, spec.runtime)
    answers = known_answers(pool, spec)
    with tracked(spec, pool, backbone, answers=answers) as run:
        images = embed_pool(pool, backbone, spec)
        zero_shot = label_zero_shot(images, pool, backbone, spec)
        if spec.method == "zero-shot":
            model = zero_shot_model(zero_shot, pool, backbone, spec)
            stages = Stages(pool=pool, backbone=backbone, images=images, zero_shot=zero_shot)
        else:
            # Phase I: two peers, seeded apart, learn prompts and an adapter on the confident set.
            confident = most_confident(zero_shot, images, pool, spec, answers)
            peers = adapt_peers(confident, pool, backbone, spec, run)

            # Collaboration: each peer labels the pool; the other keeps what it holds to be right.
            features = tuple(
                embed_pool(pool, backbone, spec, learned=[peer], name=f"peer {peer.peer}")
                for peer in peers
            )
            clean = cross_filter(peers, features, pool, spec, answers)

            # Phase II: each clean set trains one whole visual tower and its linear head.
            networks = finetune_each(clean, peers, pool, backbone, spec, run)
            model = combine(networks, pool, backbone, spec)
            stages = Stages(
                pool=pool,
                backbone=backbone,
                images=images,
                zero_shot=zero_shot,
                answers=answers,
                confident=confident,
                peers=peers,
                features=features,
                clean=clean,
                networks=networks,
            )

        predictions = predict_pool(model, pool, spec)
        evaluation = evaluate(stages, predictions, spec)
        model = assess(model, stages, predictions, evaluation, spec)
        registered = register(run, model, evaluation, name=spec.register_as, answers=answers)
        return publish(run, spec, stages, predictions, evaluation, model, registered=registered)
