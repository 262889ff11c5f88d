"""CoFT+: class sentences by choice, Phase I in rounds, and momentum contrast in Phase II."""

from prefect import flow

from flows.delivery import deliver
from tasks.backbone import find_backbone, find_student
from tasks.classifier import combine
from tasks.embed import embed_pool, embed_with_peers
from tasks.label.ahead import look_ahead
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
from tasks.plan.settings import check_settings
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.predict import predict_pool
from tasks.refs import (
    AnswersRef,
    BackboneRef,
    EmbeddingsRef,
    ImagesRef,
    LabelsRef,
    ModelRef,
    Phase1Round,
    Phase2Round,
    PredictionsRef,
    RunSummary,
    SentencesRef,
    Stages,
    TaskRef,
)
from tasks.run import tracked
from tasks.sentences.choice import choose_sentences
from tasks.sentences.given import given_sentences
from tasks.specs import CoftSpec
from tasks.tracking.runs import Run
from tasks.tracking.turns import in_turn


@flow(name="coft-plus")
@in_turn
def coft_plus(spec: CoftSpec, plan: Plan | None = None) -> RunSummary:
    """Run CoFT+ (https://arxiv.org/abs/2602.04337, 3.3), as `flows.coft` runs CoFT."""
    spec = spec.model_copy(update={"method": "coft-plus"})
    check_settings(spec)
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
        look_ahead(zero_shot, embeddings, images, task, backbone, spec)

        first = most_confident(zero_shot, embeddings, images, task, spec, answers)
        phase1 = phase1_in_rounds(first, images, task, backbone, spec, run, answers)
        phase2, model = phase2_in_rounds(
            phase1[-1], zero_shot, embeddings, images, task, student, spec, run, answers, sentences
        )

        stages = Stages(
            images=images,
            task=task,
            backbone=backbone,
            embeddings=embeddings,
            sentences=sentences,
            zero_shot=zero_shot,
            answers=answers,
            phase1=phase1,
            phase2=phase2,
        )
        return deliver(run, model, stages, spec, plan)


def phase1_in_rounds(  # noqa: PLR0913, PLR0917  # what Phase I depends on
    first: LabelsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    run: Run,
    answers: AnswersRef | None,
) -> tuple[Phase1Round, ...]:
    """Train both peers, in each round from CLIP again, on what the last peers are surest of."""
    confident: tuple[LabelsRef, ...] = (first,)
    rounds = list[Phase1Round]()
    for number in range(spec.plus.rounds + 1):
        if rounds:
            labels = label_with_peers(rounds[-1], images, task, spec)
            confident = most_confident_of_peers(labels, rounds[-1], images, task, spec, answers)
        peers = adapt_peers(confident, images, task, backbone, spec, run, number=number)
        features = embed_with_peers(images, backbone, peers, spec)
        rounds.append(Phase1Round(confident=confident, peers=peers, features=features))
    return tuple(rounds)


def phase2_in_rounds(  # noqa: PLR0913, PLR0917  # what Phase II depends on
    start: Phase1Round,
    zero_shot: LabelsRef,
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    student: BackboneRef,
    spec: CoftSpec,
    run: Run,
    answers: AnswersRef | None,
    sentences: SentencesRef | None,
) -> tuple[tuple[Phase2Round, ...], ModelRef]:
    """Train both networks, in each round from the peers again, on labels that are right more often.

    Collaboration: neighbours outvote what the peers, then the networks of the last round, believe
    of images that look alike; each peer keeps of these labels, or without them of the other's own,
    what it holds to be right. Training: cross-entropy on each clean set; on all images, rejected or
    not, contrast and what a slow teacher is sure of.
    """
    seen: Phase1Round | PredictionsRef = start
    rounds = list[Phase2Round]()
    for number in range(spec.plus.neighbours.rounds):
        neighbours = None
        if spec.plus.neighbours.k:
            neighbours = label_by_neighbours(seen, images, task, spec, answers, number=number)
        clean = cross_filter(
            start.peers, start.features, images, task, spec, answers, proposed=neighbours
        )
        networks = finetune_each(
            clean, start.peers, images, task, student, spec, run, sentences, number=number
        )
        rounds.append(Phase2Round(neighbours=neighbours, clean=clean, networks=networks))
        model = combine(networks, zero_shot, embeddings, images, task, student, spec)
        if neighbours is None or len(rounds) == spec.plus.neighbours.rounds:
            break
        seen = predict_pool(model, images, spec)
    return tuple(rounds), model
