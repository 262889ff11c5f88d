"""End a round: measure it, register its model, and write down that it is done."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import torch
from pydantic import JsonValue

from clipcore import adapters
from clipcore.active.stopping import Change, change, outlook
from clipcore.network import new_network
from tasks.active.checks import learner_adapter
from tasks.active.rounds import SCORES, STATE, Outlook, Rounds, RoundState, asked_ids, read_query
from tasks.active.rounds_report import write_rounds_report
from tasks.active.rounds_text import describe
from tasks.active.score import ScoresRef, read_learner
from tasks.active.start import StartRef, load_start, start_adapters
from tasks.active.train import LearnerRef
from tasks.classifier import save_model
from tasks.evaluate import labels_of, tally
from tasks.gate import Evidence, decide
from tasks.health import class_counts, drift_of
from tasks.label.people import answered_ids
from tasks.progress import say
from tasks.refs import AnswersRef, BackboneRef, ImagesRef, ModelRef, Split, TaskRef
from tasks.storage.columns import class_numbers, tensor_of
from tasks.storage.files import write_json
from tasks.storage.finished_runs import record_finished
from tasks.storage.manifest import iter_tables
from tasks.storage.stage import Outcome, once, step
from tasks.storage.tables import read_table
from tasks.storage.uris import join
from tasks.tracking.registration import register_model
from tasks.tracking.runs import Run, log_file, log_metrics
from tasks.weights import attach_learned, dual_head_of, served_adapters

MODEL = "model"


@step("model of round")
def round_model(
    rounds: Rounds, learner: LearnerRef, start: StartRef, task: TaskRef, backbone: BackboneRef
) -> ModelRef:
    """Write the round's learner as a classifier: the tower, its adapters, a head of its prompts."""
    folder = join(rounds.round_folder(rounds.number), MODEL)
    facts: dict[str, JsonValue] = {
        "method": "active",
        "round": rounds.number,
        "labels": learner.num_labels,
    }

    def write() -> Outcome:
        active = rounds.spec.active
        loaded = load_start(backbone.name, start, device="cpu")
        attached = start_adapters(start, active.run.phase1, backbone.kind)
        if not active.learner.on_features:
            attach_learned(loaded.visual, learner.uri).merge()
            attached += served_adapters(learner_adapter(active.learner, backbone.kind))
        model = read_learner(learner.uri)
        if model.correction:
            adapter = adapters.attach(loaded.visual, "bottleneck", generator=torch.Generator())
            adapter.restore({**adapter.tensors(), **model.correction})
            attached.append({"name": "bottleneck"})
        head = dual_head_of(dict(model.tensors)).positive
        state = new_network(loaded.visual, head.embeddings, head.logit_scale).state_dict()
        save_model(folder, [state], task, loaded, facts, attached)
        return Outcome(parts=(), facts=facts)

    manifest, resumed = once(
        folder, kind="models", digest=learner.digest, label="Model", compute=write
    )
    return ModelRef(
        uri=folder, digest=learner.digest, resumed=resumed, seconds=manifest.seconds, facts=facts
    )


@dataclass(frozen=True)
class RoundResult:
    """The stages of a round, and how many images it asked about."""

    answers: AnswersRef
    learner: LearnerRef
    scores: ScoresRef
    model: ModelRef
    query_size: int


@step("close round")
def close_round(
    rounds: Rounds,
    result: RoundResult,
    images: ImagesRef,
    task: TaskRef,
    start: StartRef,
    run: Run,
) -> RoundState:
    """Measure what labels allow, register the model with the round's evidence, and end the round.

    Nothing of the round changes after its `state.json` is written.
    """
    measured = _measured(result, images, task, start)
    moved = _moved(rounds, result.scores, task)
    changes = [*_changes(rounds), *([moved] if moved else [])]
    expected = outlook(changes, smallest_gain=rounds.spec.smallest_gain)
    state = RoundState(
        number=rounds.number,
        num_labels=result.learner.num_labels,
        num_asked=len(
            asked_ids(rounds) | set(read_query(rounds, rounds.number)["image_id"].to_pylist())
        ),
        query_size=result.query_size,
        **measured,
        answers_per_class=_coverage(result.answers, task.classes),
        churn=moved and moved.churn,
        surer=moved and moved.surer,
        outlook=expected and Outlook(**vars(expected)),
        seconds=result.learner.seconds + result.scores.seconds + result.model.seconds,
    )
    state = _passed_gate(rounds, state, result, task, start)
    state = _registered(rounds, state, result.model, run)
    log_file(run, write_rounds_report(rounds, state), folder="rounds")
    write_json(join(rounds.round_folder(rounds.number), STATE), state.model_dump(mode="json"))
    record_finished(rounds.spec.active.run.runtime.workspace)
    say(describe(state))
    return state


def _registered(rounds: Rounds, state: RoundState, model: ModelRef, run: Run) -> RoundState:
    """Register the round's model with the round's measures as evidence."""
    measured = {
        "labels": state.num_labels,
        "accuracy": state.accuracy,
        "zero_shot_accuracy": state.zero_shot_accuracy,
        "churn": state.churn,
    }
    log_metrics(run, {f"active/{key}": value for key, value in measured.items()}, step=state.number)
    name = rounds.spec.active.run.register_as or f"{rounds.spec.name}-active"
    empty = [label for label, count in state.answers_per_class.items() if not count]
    evidence = {
        "round": state.number,
        **measured,
        "classes_without_answer": len(empty),
        "verdict": state.verdict,
    }
    version = register_model(run, model.uri, name=name, healthy=state.healthy, evidence=evidence)
    return state.model_copy(update={"model_uri": version.uri, "model_version": version.version})


def _measured(
    result: RoundResult, images: ImagesRef, task: TaskRef, start: StartRef
) -> dict[str, Any]:
    """Return the accuracies on the test split, or else on pool images that have no answer."""
    split: Split = "test" if images.num_test else "pool"
    answered = answered_ids(result.answers)
    after = tally(task, labels_of(result.scores.uri, "confidence"), split, without=answered)
    before = tally(task, labels_of(start.zero_shot.uri, "confidence"), split, without=answered)
    return {
        "accuracy": after and after["accuracy"],
        "zero_shot_accuracy": before and before["accuracy"],
        "transductive": split == "pool" and after is not None,
    }


def _passed_gate(
    rounds: Rounds, state: RoundState, result: RoundResult, task: TaskRef, start: StartRef
) -> RoundState:
    """Return the state with the gate's verdict on the round's model."""
    bounds = rounds.spec.active.run.gate
    drift, lost = drift_of(start.zero_shot, result.scores, task.classes, bounds)
    earlier = [past.accuracy for past in rounds.states if past.accuracy is not None]
    evidence = Evidence(
        drift=drift,
        lost_classes=lost,
        accuracy=state.accuracy,
        accuracy_before=max([*earlier, state.zero_shot_accuracy or 0.0]),
    )
    verdict = decide(evidence, bounds)
    counts = class_counts(result.scores.uri, task.classes).tolist()
    update = {
        "healthy": verdict.healthy,
        "verdict": verdict.text,
        "predicted_per_class": dict(zip(task.classes, counts, strict=True)),
    }
    return state.model_copy(update=update)


def _coverage(answers: AnswersRef, classes: tuple[str, ...]) -> dict[str, int]:
    """Return how many answers each class has."""
    table = read_table(answers.uri, ["kind", "label"])
    labels = table.filter(pc.equal(table["kind"], "label"))["label"].to_pylist()
    return {name: labels.count(name) for name in classes}


def _changes(rounds: Rounds) -> list[Change]:
    return [
        Change(churn=state.churn, surer=state.surer)
        for state in rounds.states
        if state.churn is not None and state.surer is not None
    ]


def _moved(rounds: Rounds, scores: ScoresRef, task: TaskRef) -> Change | None:
    """Return how the predictions differ from the round before; None in the first round."""
    if not rounds.number:
        return None
    last = join(rounds.round_folder(rounds.number - 1), SCORES)
    before, after = (list(_predicted(uri, task)) for uri in (last, scores.uri))
    labels_before, p_clean_before = (torch.cat(column) for column in zip(*before, strict=True))
    labels_after, p_clean_after = (torch.cat(column) for column in zip(*after, strict=True))
    return change(labels_before, labels_after, p_clean_before, p_clean_after)


def _predicted(folder: str, task: TaskRef) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (class numbers, clean probabilities) shard by shard: twelve bytes an image."""
    for table in iter_tables(folder, ["label", "p_clean"]):
        yield class_numbers(task.classes, table["label"]), tensor_of(table, "p_clean")
