"""One simulated course of questions: a strategy, a seed, and a data set that answers."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore import cleaning, metrics
from clipcore.active.candidates import Candidates
from clipcore.active.oracle import Oracle
from clipcore.active.query import query
from clipcore.active.stopping import Change, change, outlook
from clipcore.active.strategies import find_strategy
from clipcore.active.uncertainty import entropy_of, margin_of
from clipcore.backbone import Backbone
from clipcore.dual import Learner
from clipcore.seeding import generator
from tasks.active.learn import Scores, known_of, most_believed, new_learner, score, train
from tasks.specs import LearnerSpec, QuerySpec

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

    features: Tensor
    test_features: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    pixels: Tensor | None = None
    test_pixels: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """Return what a learner reads of the pool, and of the images that only measure."""
        if self.pixels is None or self.test_pixels is None:
            return self.features, self.test_features
        return self.pixels, self.test_pixels


@dataclass(frozen=True)
class Beginning:
    """The classifier that names the first pseudo-labels: class embeddings and a logit scale."""

    embeddings: Tensor
    logit_scale: float
    bias: Tensor | float = 0.0

    def name(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return (confidence, class number) of each image."""
        logits = self.logit_scale * features @ self.embeddings.T + self.bias
        confidence, labels = logits.softmax(dim=1).max(dim=1)
        return confidence, labels


@dataclass(frozen=True)
class Setting:
    """What a trial is played on: the images, who names them first, and a backbone for a round."""

    images: Images
    beginning: Beginning
    new_backbone: Callable[[], Backbone]


@dataclass(frozen=True)
class Method:
    """What is compared: how a round learns, what it asks, and the seed of both."""

    learner: LearnerSpec
    query: QuerySpec
    seed: int
    flip: bool = True


@dataclass
class Course:
    """What is known when a round begins."""

    asked: list[int]
    answers: Tensor
    believed: Tensor
    pseudo_labels: Tensor
    last: Scores | None = None
    changes: list[Change] = field(default_factory=list)


def run_trial(
    setting: Setting,
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
    """
    images = setting.images
    course = _begin(setting, method.learner)
    rows: list[Row] = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        if number:
            model = _train(setting, course, method)
        else:
            model = _untrained(setting, method)
            model.restore(dict(first))
        pool, test = (score(model, inputs) for inputs in images.inputs)
        if course.last is not None:
            last = course.last
            moved = change(last.predicted, pool.predicted, last.p_clean, pool.p_clean)
            course.changes.append(moved)
        row = _measure(images, oracle, test, course)
        if number < rounds:
            _ask(images, pool, oracle, course, method, number=number)
        course.last = pool
        rows.append({"round": number, **row, "seconds": time.perf_counter() - started})
    if oracle.num_read != len(course.asked):
        raise AssertionError(
            f"{oracle.num_read} labels were read, {len(course.asked)} were asked for"
        )
    return rows


def train_first(setting: Setting, method: Method) -> dict[str, Tensor]:
    """Return what the learner of round 0 learns, from pseudo-labels alone."""
    return _train(setting, _begin(setting, method.learner), method).tensors()


def _begin(setting: Setting, spec: LearnerSpec) -> Course:
    """Return a course without answers: the start's surest images of each class are believed."""
    images, beginning = setting.images, setting.beginning
    confidence, labels = beginning.name(images.features)
    free = torch.ones(len(labels), dtype=torch.bool)
    positions = _believe(confidence, labels, free, spec, num_classes=len(images.classes))
    return Course([], torch.zeros(0, dtype=torch.long), positions, labels[positions])


def _train(setting: Setting, course: Course, method: Method) -> Learner:
    """Return a fresh learner that was trained on what is known."""
    images = setting.images
    spec = method.learner
    model = _untrained(setting, method)
    use = spec.believes or not course.asked
    believed = course.believed if use else course.believed[:0]
    chosen = torch.cat([torch.tensor(course.asked, dtype=torch.long), believed])
    inputs, _ = images.inputs
    pseudo_labels = course.pseudo_labels[: len(believed)]
    known = known_of(course.answers, pseudo_labels, lambda positions: inputs[chosen[positions]])
    train(model, known, spec, seed=method.seed)
    return model


def _untrained(setting: Setting, method: Method) -> Learner:
    return new_learner(
        setting.new_backbone(),
        setting.images.classes,
        method.learner,
        given=F.normalize(setting.beginning.embeddings, dim=1),
        seed=method.seed,
        flip=method.flip,
    )


def _ask(
    images: Images,
    pool: Scores,
    oracle: Oracle,
    course: Course,
    method: Method,
    *,
    number: int,
) -> None:
    """Choose the next query, have it answered, and mine what the next round believes."""
    free = torch.ones(len(pool.gap), dtype=torch.bool)
    free[course.asked] = False
    left = torch.nonzero(free).flatten()
    candidates = Candidates(
        features=pool.features[left],
        probabilities=pool.probabilities[left],
        gap=pool.gap[left],
        labeled_features=pool.features[course.asked],
        labels=course.answers,
        looks=images.features[left],
        labeled_looks=images.features[course.asked],
    )
    spec = method.query
    draws = generator(method.seed, "active", "query", number)
    chosen = query(
        find_strategy(spec.strategy),
        candidates,
        spec.per_round,
        draws,
        max_similarity=spec.max_similarity,
    )
    asked: list[int] = left[chosen].tolist()
    course.asked += asked
    course.answers = torch.cat([course.answers, oracle.answer(asked)])
    free[asked] = False
    predicted, classes = pool.predicted, pool.probabilities.shape[1]
    course.believed = _believe(pool.gap, predicted, free, method.learner, num_classes=classes)
    course.pseudo_labels = predicted[course.believed]


def _believe(
    confidence: Tensor, labels: Tensor, free: Tensor, spec: LearnerSpec, *, num_classes: int
) -> Tensor:
    """Return the positions of the surest images of each class, the answered left out."""
    per_class = cleaning.resolve_per_class(
        spec.per_class, num_classes=num_classes, minimum_total=spec.min_pseudo
    )
    return most_believed(confidence, labels, free, num_classes=num_classes, per_class=per_class)


def _measure(images: Images, oracle: Oracle, test: Scores, course: Course) -> Row:
    """Return the test accuracy, how well each score finds wrong predictions, and what was known."""
    num_classes = len(images.classes)
    confusion = metrics.confusion_matrix(
        images.test_labels, test.predicted, num_classes=num_classes
    )
    right = test.predicted == images.test_labels
    expected = outlook(course.changes)
    return {
        "num_labels": len(course.asked),
        "accuracy": metrics.accuracy(confusion),
        "mean_recall": float(metrics.recall_per_class(confusion).nanmean()),
        "pseudo_precision": oracle.share_right(course.believed, course.pseudo_labels),
        "answers_per_class": torch.bincount(course.answers, minlength=num_classes).tolist(),
        "detectors": _detectors(test, right),
        "churn": course.changes[-1].churn if course.changes else None,
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
        "p_clean": _worth(scores.gap, right, clean),
        "max probability": _worth(best, right, best),
        "margin": _worth(-margin_of(p), right),
        "entropy": _worth(-entropy_of(p), right),
    }


def _worth(sure: Tensor, right: Tensor, chance: Tensor | None = None) -> dict[str, float | None]:
    error = None if chance is None else metrics.calibration_error(chance, right)
    area = metrics.auroc(sure, right)  # not a number where all are right, or none
    return {"auroc": None if math.isnan(area) else area, "calibration_error": error}
