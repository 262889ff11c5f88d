"""CoFT+: class sentences by choice, Phase I in rounds, and momentum contrast in Phase II."""

from prefect import flow

from flows.delivery import deliver
from tasks.backbone import find_backbone, find_student
from tasks.classifier import combine
from tasks.embed import embed_pool, embed_with_peers
from tasks.label.confident import most_confident
from tasks.label.cross_filter import cross_filter
from tasks.label.neighbours import label_by_neighbours
from tasks.label.peers import label_with_peers, most_confident_of_peers
from tasks.label.people import known_answers
from tasks.label.zero_shot import label_zero_shot
from tasks.phase1 import adapt_peers
from tasks.phase2 import finetune_each
from tasks.plan.facts import Plan
from tasks.plan.make import follow
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.refs import LabelsRef, Phase1Round, RunSummary, Stages
from tasks.run import tracked
from tasks.sentences.choice import choose_sentences
from tasks.sentences.given import given_sentences
from tasks.specs import CoftSpec
from tasks.tracking.turns import in_turn


@flow(name="coft-plus")
@in_turn
def coft_plus(spec: CoftSpec, plan: Plan | None = None) -> RunSummary:
    """Run CoFT+ (https://arxiv.org/abs/2602.04337, 3.3), as `flows.coft` runs CoFT."""
    spec = spec.model_copy(update={"method": "coft-plus"})
    plan = follow(plan, spec, "adapt")
    backbone = find_backbone(spec.backbone, spec.runtime)
    student = find_student(spec, backbone)
    images = open_images(spec.pool, spec.runtime)
    task = open_task(images, spec.pool, spec.runtime)
    answers, given = known_answers(images, task, spec), given_sentences(task, backbone, spec)
    with tracked(spec, images, task, backbone, answers=answers, sentences=given) as run:
        embeddings = embed_pool(images, backbone, spec)

        # The sentences by which CLIP knows the classes: those that the images prefer.
        sentences = given or choose_sentences(embeddings, images, task, backbone, spec)
        zero_shot = label_zero_shot(embeddings, images, task, backbone, spec, sentences)

        # Phase I in rounds: each time both peers start from CLIP again, and learn from the labels
        # of which the peers of the last round are surest.
        first = most_confident(zero_shot, embeddings, images, task, spec, answers)
        confident: tuple[LabelsRef, ...] = (first,)
        rounds = list[Phase1Round]()
        for number in range(spec.plus.rounds + 1):
            if rounds:
                labels = label_with_peers(rounds[-1], images, task, spec)
                confident = most_confident_of_peers(labels, rounds[-1], images, task, spec, answers)
            peers = adapt_peers(confident, images, task, backbone, spec, run, number=number)
            features = embed_with_peers(images, backbone, peers, spec)
            rounds.append(Phase1Round(confident=confident, peers=peers, features=features))

        # Collaboration: neighbours outvote what the peers believe of images that look alike; each
        # peer keeps of these labels, or of the other's own, what it holds to be right.
        neighbours = None
        if spec.plus.neighbours.k:
            neighbours = label_by_neighbours(rounds[-1], images, task, spec, answers)
        clean = cross_filter(peers, features, images, task, spec, answers, proposed=neighbours)

        # Phase II: cross-entropy on each clean set; on all images, rejected or not, contrast and
        # what a slow teacher is sure of.
        networks = finetune_each(clean, peers, images, task, student, spec, run, sentences)
        model = combine(networks, task, student, spec)

        stages = Stages(
            images=images,
            task=task,
            backbone=backbone,
            embeddings=embeddings,
            sentences=sentences,
            zero_shot=zero_shot,
            answers=answers,
            rounds=tuple(rounds),
            neighbours=neighbours,
            clean=clean,
            networks=networks,
        )
        return deliver(run, model, stages, spec, plan)
