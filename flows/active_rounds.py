"""Active rounds with a person: train, score, ask, wait for answers, and again."""

from typing import Literal

from prefect import flow
from prefect.flow_runs import pause_flow_run, suspend_flow_run

from flows.rounds_start import find_start
from tasks.active.checks import check_learner
from tasks.active.finish import RoundResult, close_round, round_model
from tasks.active.query import ask
from tasks.active.rounds import (
    Rounds,
    RoundState,
    fix_answers,
    has_news,
    hold_rounds,
    open_rounds,
    pin,
    unanswered,
)
from tasks.active.score import score_pool
from tasks.active.start import StartRef
from tasks.active.take_answers import answer_by_script, take_answers
from tasks.active.train import LearnerRef, train_round
from tasks.answers.outcome import ImportReport
from tasks.backbone import find_backbone
from tasks.embed import embed_pool
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, TaskRef
from tasks.run import tracked
from tasks.specs import RuntimeSpec
from tasks.tracking.turns import in_turn

Wait = Literal["return", "pause", "suspend"]
WEEK = 7 * 24 * 3600


@flow(name="active-round")
@in_turn
def active_round(runtime: RuntimeSpec, name: str) -> RoundState:
    """Run one round of https://arxiv.org/abs/2602.04340, section 3.3, up to its question.

    A fresh learner is trained on every answer so far and on the most confident pseudo-labels of the
    round before; it labels the pool; the least certain images are asked about. A round that was
    killed goes on. When the budget is spent, a round follows only if answers came in since.
    """
    with hold_rounds(runtime, name) as rounds:
        if rounds.finished and not has_news(rounds):
            return rounds.states[-1]
        return _round(rounds)


def _round(rounds: Rounds) -> RoundState:
    spec = rounds.spec.active
    answers = fix_answers(rounds)
    backbone = find_backbone(spec.run.backbone, spec.run.runtime)
    images, task = _about(rounds)
    check_learner(spec.learner, backbone.kind)
    pin(rounds, images, task, backbone)
    title = f"{rounds.spec.name}-round-{rounds.number}"
    with tracked(spec.run, images, task, backbone, name=title, more=rounds.spec) as run:
        start = find_start(spec, images, task, backbone, run)
        learner = train_round(rounds, answers, start, images, task, backbone, run)
        features = _features(rounds, learner, start, images, backbone)
        scores = score_pool(rounds, learner, features, images, task)
        model = round_model(rounds, learner, start, task, backbone)
        size = ask(rounds, answers, learner, features, scores, start, images, task)
        result = RoundResult(answers, learner, scores, model, query_size=size)
        return close_round(rounds, result, images, task, start, run)


@flow(name="active-rounds")
def active_rounds(
    runtime: RuntimeSpec, name: str, wait: Wait = "return", oracle: str | None = None
) -> RoundState:
    """Go from round to round until the budget is spent, as far as there are answers.

    Files are the truth: whoever calls this again, after a crash, in a week or on a schedule, goes
    on from them. A round begins when the whole query of the last one is answered.

    Args:
        runtime: Where the rounds are, and where to compute.
        name: Of the rounds.
        wait: What to do while answers are missing: "return" and be called again; "pause" this
            process; or "suspend" the flow run, whose process ends until Prefect resumes it.
        oracle: A file of labels, or "column" for the pool's own, that answers every query.
    """
    while True:
        rounds = open_rounds(runtime, name)
        if unanswered(rounds):
            if oracle is not None:
                answer_by_script(rounds, oracle, *_about(rounds))
            elif wait == "return":
                return rounds.states[-1]
            else:
                hold = pause_flow_run if wait == "pause" else suspend_flow_run
                # Resumed by a person, it goes on with the answers that are there.
                hold(timeout=WEEK, key=f"round-{rounds.number}")
        state = active_round(runtime, name)
        if not state.query_size:
            return state


@flow(name="active-answer")
def answer_rounds(runtime: RuntimeSpec, name: str, file: str) -> ImportReport:
    """Take a file of answers, and return what it changed."""
    rounds = open_rounds(runtime, name)
    return take_answers(rounds, file, *_about(rounds))


def _features(
    rounds: Rounds, learner: LearnerRef, start: StartRef, images: ImagesRef, backbone: BackboneRef
) -> EmbeddingsRef:
    """Return the features that the round's learner reads: those of the start, or of its tower."""
    spec = rounds.spec.active
    if spec.learner.on_features:
        return start.features
    learned = [ref for ref in (start.model, start.peer, learner) if ref is not None]
    return embed_pool(images, backbone, spec.run, learned=learned, name=f"round {rounds.number}")


def _about(rounds: Rounds) -> tuple[ImagesRef, TaskRef]:
    """Return the images that the rounds are about, and the classes."""
    spec = rounds.spec.active.run
    images = open_images(spec.pool, spec.runtime)
    return images, open_task(images, spec.pool, spec.runtime)
