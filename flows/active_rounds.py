"""Active rounds with a person: train, score, ask, wait for answers, and again."""

from typing import Literal

from prefect import flow
from prefect.flow_runs import pause_flow_run, suspend_flow_run

from flows.active_start import find_start
from tasks.active.ask import ask
from tasks.active.close import Made, close_round, round_model
from tasks.active.reply import answer_by_script, take_answers
from tasks.active.session import Rounds, RoundState, fix_answers, open_rounds, unanswered
from tasks.active.train import score_pool, train_round
from tasks.embed import find_backbone
from tasks.pool import open_pool
from tasks.publish import tracked

Wait = Literal["return", "pause", "suspend"]
WEEK = 7 * 24 * 3600


@flow(name="active-round")
def active_round(workspace: str, name: str) -> RoundState:
    """Run one round of https://arxiv.org/abs/2602.04340, section 3.3, up to its question.

    A fresh learner is trained on every answer so far and on what the round before was surest of;
    it labels the pool; what it is least sure of is asked. A round that was killed goes on.
    """
    rounds = open_rounds(workspace, name)
    if rounds.finished:
        return rounds.states[-1]
    spec = rounds.spec.active
    answers = fix_answers(rounds)
    backbone = find_backbone(spec.run.backbone)
    pool = open_pool(spec.run.pool, spec.run.runtime)
    title = f"{name}-round-{rounds.number}"
    with tracked(spec.run, pool, backbone, name=title, more=rounds.spec) as run:
        start = find_start(spec, pool, backbone, run)
        learner = train_round(rounds, answers, start, pool, backbone)
        scores = score_pool(rounds, learner, start, pool)
        model = round_model(rounds, learner, start, pool, backbone)
        size = ask(rounds, answers, learner, scores, start, pool)
        made = Made(answers, learner, scores, model, query_size=size)
        return close_round(rounds, made, pool, start, run)


@flow(name="active-rounds")
def active_rounds(
    workspace: str, name: str, wait: Wait = "return", oracle: str | None = None
) -> RoundState:
    """Go from round to round until the budget is spent, as far as there are answers.

    Files are the truth: whoever calls this again, after a crash, in a week or on a schedule, goes
    on from them.

    Args:
        workspace: Where the rounds are.
        name: Of the rounds.
        wait: What to do when a query has no answers: "return" and be called again; "pause" this
            process; or "suspend" the flow run, whose process ends until Prefect resumes it.
        oracle: A file of labels, or "column" for the pool's own, that answers every query.
    """
    state = active_round(workspace, name)
    while state.query_size:
        rounds = open_rounds(workspace, name)
        if oracle is not None:
            _answer(rounds, oracle)
        elif unanswered(rounds) == state.query_size:
            if wait == "return":
                return state
            hold = pause_flow_run if wait == "pause" else suspend_flow_run
            hold(timeout=WEEK, key=f"round-{state.number}")
        state = active_round(workspace, name)
    return state


@flow(name="active-answer")
def answer_rounds(workspace: str, name: str, file: str) -> list[str]:
    """Take a file of answers, and return what it changed, in lines for a person."""
    rounds = open_rounds(workspace, name)
    spec = rounds.spec.active.run
    pool = open_pool(spec.pool, spec.runtime)
    return take_answers(rounds, file, pool).lines()


def _answer(rounds: Rounds, oracle: str) -> None:
    """Let the oracle answer the last query."""
    spec = rounds.spec.active.run
    answer_by_script(rounds, oracle, open_pool(spec.pool, spec.runtime))
