"""Simulated rounds: a strategy, a seed, and a data set that answers from labels held back."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clipcore import metrics
from clipcore.active.candidates import Candidates
from clipcore.active.oracle import Oracle
from clipcore.active.rounds import next_query
from clipcore.active.scores import Scores, score
from clipcore.active.spreading import spread, with_answers
from clipcore.active.stopping import Change, change, outlook
from clipcore.active.training import RoundSet, TrainingPositions, choose_training
from clipcore.active.uncertainty import entropy_of, margin_of
from clipcore.dual import DualLearner
from clipcore.fit import loader
from clipcore.head import Head

Row = dict[str, Any]


@dataclass(frozen=True)
class Images:
    """A data set as features; the order is that of the image ids.

    Attributes:
        features: Of the pool, which is asked about and trained on; an oracle has its labels.
        test_features: Of the images that only measure.
        test_labels: Their labels.
        classes: Names.
        pixels: Of the pool, for learners that work through the tower; uint8, mapped from a file.
        test_pixels: Of the images that only measure.
    """

    features: Float[Tensor, "pool dim"]
    test_features: Float[Tensor, "test dim"]
    test_labels: Int[Tensor, " test"]
    classes: tuple[str, ...]
    pixels: Tensor | None = None
    test_pixels: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """Return what a learner encodes of the pool, and of the images that only measure."""
        if self.pixels is None or self.test_pixels is None:
            return self.features, self.test_features
        return self.pixels, self.test_pixels


@dataclass(frozen=True)
class Method:
    """What is compared: how a round learns, what it trains on and what it asks.

    Attributes:
        new_learner: Makes the untrained learner of a round, every time the same.
        train: Trains it.
        strategy: Name of the query strategy.
        per_round: Images of a query.
        max_similarity: See `query.query`.
        pseudo_labels: Whether rounds with answers train on pseudo-labels too.
        per_class: See `training.choose_training`.
        minimum_total: See `training.choose_training`.
        seed: Of the queries.
        spread_answers: Whether pseudo-labels are what neighbours say once there are answers.
    """

    new_learner: Callable[[], DualLearner]
    train: Callable[[DualLearner, RoundSet], None]
    strategy: str
    per_round: int
    max_similarity: float
    pseudo_labels: bool
    per_class: int
    minimum_total: int
    seed: int
    spread_answers: bool = False


@dataclass
class State:
    """The answers and predictions that a round begins with.

    Attributes:
        answers: Class number of each image of the pool, -1 where it was not asked about.
        predicted: What the round before, or the start, predicts for each image.
        confidence: How sure it is.
        last: Scores of the round before.
        changes: Between the rounds so far.
    """

    answers: Int[Tensor, " pool"]
    predicted: Int[Tensor, " pool"]
    confidence: Float[Tensor, " pool"]
    last: Scores | None = None
    changes: list[Change] = field(default_factory=list)

    @property
    def asked(self) -> Bool[Tensor, " pool"]:
        """Return which images have an answer."""
        return self.answers >= 0


def simulate(
    images: Images,
    start: Head,
    oracle: Oracle,
    method: Method,
    *,
    rounds: int,
    first: Mapping[str, Tensor],
) -> list[Row]:
    """Return what every round measured, from no answers to `rounds` queries of them.

    A round trains a fresh learner on all answers and on the pseudo-labels that the round before
    mined, scores the pool, and asks (active paper, 3.3). Round 0 has no answers: what it learns is
    the same whatever is asked afterwards, and comes from `train_first`.

    Args:
        images: The data set.
        start: Names the first pseudo-labels.
        oracle: Has the labels of the pool, and counts those that it gives away.
        method: What is compared.
        rounds: Queries.
        first: Tensors of the learner of round 0.
    """
    state = _begin(images, start)
    rows: list[Row] = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        positions = training_positions(state, method, len(images.classes))
        learner = method.new_learner()
        if number:
            method.train(learner, _round_set(images, state, positions))
        else:
            learner.restore(dict(first))
        head = learner.head()
        pool, test = (score(learner.images, head, inputs) for inputs in images.inputs)
        if state.last is not None:
            last = state.last
            state.changes.append(change(last.predicted, pool.predicted, last.p_clean, pool.p_clean))
        row = _measure(images, oracle, test, state, positions)
        if number < rounds:
            texts = head.positive.embeddings.cpu()
            asked = ask(images, pool, texts, state, method, round_number=number)
            state.answers[asked] = oracle.answer(asked.tolist())
        state.predicted, state.confidence = believed(images, pool, state, method)
        state.last = pool
        rows.append({"round": number, **row, "seconds": time.perf_counter() - started})
    if oracle.num_read != int(state.asked.sum()):
        raise AssertionError(
            f"{oracle.num_read} labels were read, {int(state.asked.sum())} were asked for"
        )
    return rows


def train_first(images: Images, start: Head, method: Method) -> dict[str, Tensor]:
    """Return the tensors of the learner of round 0, which is trained on pseudo-labels alone."""
    state = _begin(images, start)
    positions = training_positions(state, method, len(images.classes))
    learner = method.new_learner()
    method.train(learner, _round_set(images, state, positions))
    return learner.tensors()


def training_positions(state: State, method: Method, num_classes: int) -> TrainingPositions:
    """Return the images that the next round is trained on."""
    return choose_training(
        state.answers,
        state.predicted,
        state.confidence,
        state.asked,
        pseudo_labels=method.pseudo_labels,
        num_classes=num_classes,
        per_class=method.per_class,
        minimum_total=method.minimum_total,
    )


def believed(
    images: Images, pool: Scores, state: State, method: Method
) -> tuple[Int[Tensor, " pool"], Float[Tensor, " pool"]]:
    """Return the pseudo-label of each image, and how sure it is, for the next round."""
    if not (method.spread_answers and method.pseudo_labels and bool(state.asked.any())):
        return pool.predicted, pool.gap
    beliefs = with_answers(pool.probabilities, state.answers)
    confidence, labels = spread(beliefs, images.features).max(dim=1)
    return labels, confidence


def ask(
    images: Images,
    pool: Scores,
    class_embeddings: Float[Tensor, "classes dim"],
    state: State,
    method: Method,
    *,
    round_number: int,
) -> Int[Tensor, " chosen"]:
    """Return positions of the images that a round asks about."""
    left = torch.nonzero(~state.asked).flatten()
    answered = torch.nonzero(state.asked).flatten()
    candidates = Candidates(
        features=pool.features[left],
        probabilities=pool.probabilities[left],
        gap=pool.gap[left],
        labeled_features=pool.features[answered],
        labels=state.answers[answered],
        start_features=images.features[left],
        labeled_start_features=images.features[answered],
        class_embeddings=class_embeddings,
    )
    chosen = next_query(
        candidates,
        method.per_round,
        strategy=method.strategy,
        max_similarity=method.max_similarity,
        seed=method.seed,
        round_number=round_number,
    )
    return left[chosen]


def _begin(images: Images, start: Head) -> State:
    """Return the state before any answer: the start predicts."""
    predicted, confidence = start.predict(images.features)
    return State(torch.full((len(predicted),), -1), predicted, confidence)


def _round_set(images: Images, state: State, positions: TrainingPositions) -> RoundSet:
    inputs, _ = images.inputs
    chosen = positions.all
    return RoundSet(
        answers=state.answers[positions.answered],
        pseudo_labels=state.predicted[positions.believed],
        load=loader(lambda rows: inputs[chosen[rows]]),
    )


def _measure(
    images: Images, oracle: Oracle, test: Scores, state: State, positions: TrainingPositions
) -> Row:
    """Return test accuracy, how well each score finds wrong predictions, and labels so far."""
    num_classes = len(images.classes)
    confusion = metrics.confusion_matrix(
        images.test_labels, test.predicted, num_classes=num_classes
    )
    right = test.predicted == images.test_labels
    expected = outlook(state.changes)
    pseudo_labels = state.predicted[positions.believed]
    return {
        "num_labels": int(state.asked.sum()),
        "accuracy": metrics.accuracy(confusion),
        "mean_recall": float(metrics.recall_per_class(confusion).nanmean()),
        "pseudo_precision": oracle.share_right(positions.believed, pseudo_labels),
        "answers_per_class": torch.bincount(
            state.answers[state.asked], minlength=num_classes
        ).tolist(),
        "detectors": _detectors(test, right),
        "churn": state.changes[-1].churn if state.changes else None,
        "outlook": vars(expected) if expected else None,
    }


def _detectors(scores: Scores, right: Tensor) -> dict[str, dict[str, float | None]]:
    """Return how well four certainties tell right predictions from wrong ones.

    The clean probability ranks by its gap, which does not saturate. Only the two that are
    probabilities of being right have a calibration error.
    """
    p = scores.probabilities
    best, clean = p.amax(dim=1), scores.p_clean
    return {
        "p_clean": _detector(scores.gap, right, clean),
        "max probability": _detector(best, right, best),
        "margin": _detector(-margin_of(p), right),
        "entropy": _detector(-entropy_of(p), right),
    }


def _detector(
    certainty: Tensor, right: Tensor, probability: Tensor | None = None
) -> dict[str, float | None]:
    error = None if probability is None else metrics.calibration_error(probability, right)
    area = metrics.auroc(certainty, right)  # not a number where all are right, or none
    return {"auroc": None if math.isnan(area) else area, "calibration_error": error}
