"""Harmony beside other ways of learning modalities: one of them, by name, over all modalities."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.harmony.baselines import Ewc, L2p, Lwf, Nothing, Replay, learn_jointly
from clipcore.harmony.keeping import Harmony
from clipcore.harmony.matrix import accuracy_matrix
from clipcore.harmony.samples import Samples
from clipcore.harmony.stage import LEARNING_RATE, STEPS, Method, learn_stage
from clipcore.harmony.state import State, new_state, predict_by
from clipcore.harmony.stem import WIDTH
from clipcore.harmony.trunk import PartName, TrunkName
from clipcore.metrics import accuracy, confusion_matrix

Data = Mapping[str, tuple[Samples, Samples]]
"""Samples to learn from and samples to measure on, of each modality."""

Models = Mapping[str, State]
"""The model that answers for each modality."""


class UnknownMethod(ValueError):
    """A name that no way of learning has."""


@dataclass(frozen=True)
class Way:
    """A way of learning modalities.

    Attributes:
        keeps: What is kept of earlier modalities beside the weights, in words.
        method: Makes what keeps them, for one run.
        part_name: What each has of its own in the trunk.
        freeze_trunk: Whether the trunk learns at the first stage alone.
        trunk: The one that it needs; any by default.
        learns: One modality after the other, all at once, or each by a model of its own.
    """

    keeps: str
    method: Callable[[], Method] = Nothing
    part_name: PartName = "adapter"
    freeze_trunk: bool = False
    trunk: TrunkName | None = None
    learns: Literal["in turn", "at once", "apart"] = "in turn"


METHODS: Mapping[str, Way] = {
    "harmony": Way("class statistics", Harmony),
    "as-written": Way("class statistics", Harmony.as_written),
    "sequential": Way("nothing", part_name="none"),
    "sequential-adapters": Way("nothing"),
    "adapters": Way("nothing", freeze_trunk=True),
    "l2p": Way("nothing", L2p, part_name="prompts", freeze_trunk=True, trunk="transformer"),
    "lwf": Way("nothing", Lwf, part_name="none"),
    "lwf-adapters": Way("nothing", Lwf),
    "ewc": Way("weights and how much each matters", Ewc, part_name="none"),
    "ewc-adapters": Way("weights and how much each matters", Ewc),
    "replay-5": Way("5 samples a class", partial(Replay, 5), part_name="none"),
    "replay-5-adapters": Way("5 samples a class", partial(Replay, 5)),
    "replay-20": Way("20 samples a class", partial(Replay, 20), part_name="none"),
    "replay-20-adapters": Way("20 samples a class", partial(Replay, 20)),
    "joint": Way("all samples", part_name="none", learns="at once"),
    "joint-adapters": Way("all samples", learns="at once"),
    "separate": Way("a model of each modality", learns="apart"),
}


@dataclass(frozen=True)
class Outcome:
    """What a way of learning came to.

    Attributes:
        matrix: Accuracy on each modality after each stage; one row if it learns at once or apart.
        routed: Accuracy on each modality after the last stage where nobody says which one it is.
        further: Accuracy on the further samples, after the last stage.
        seconds: Of the processor.
    """

    matrix: list[list[float]]
    routed: list[float]
    further: dict[str, float]
    seconds: float


def way_of(name: str) -> Way:
    """Return a way of learning by its name.

    Raises:
        UnknownMethod: none has it.
    """
    if name not in METHODS:
        raise UnknownMethod(f"expected one of the methods {', '.join(METHODS)}, got {name}")
    return METHODS[name]


def run_way(  # noqa: PLR0913  # how, what, in which order, how long
    way: Way,
    data: Data,
    order: Sequence[str],
    classes: Sequence[str],
    anchors: Float[Tensor, "classes out"],
    *,
    scale: float,
    seed: int,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    trunk: TrunkName = "mlp",
    dim: int = WIDTH,
    further: Mapping[str, tuple[str, Samples]] | None = None,
) -> Outcome:
    """Learn modalities in one way, and measure after each stage.

    Args:
        way: How.
        data: Of each modality.
        order: In which the modalities come.
        classes: Names.
        anchors: Text embeddings of the names, L2-normalised.
        scale: Logit scale of the backbone that made them.
        seed: Of the run.
        steps: Of each stage; as many for each modality where they are learned at once.
        learning_rate: Of AdamW at the first step of a stage.
        trunk: Which network, where the way needs none.
        dim: Numbers that it sees.
        further: Samples to measure on as well, and the modality of which they are.
    """
    started = time.process_time()
    kind = way.trunk or trunk
    first = new_state(classes, anchors, scale=scale, seed=seed, trunk=kind, dim=dim)
    train = {name: data[name][0] for name in order}
    stages: list[dict[str, float]] = []
    models: Models = {}
    for models in learned(way, first, train, seed=seed, steps=steps, learning_rate=learning_rate):
        stages.append({name: known_accuracy(models, name, data[name][1]) for name in models})
    return Outcome(
        accuracy_matrix(stages, order),
        [routed_accuracy(models, data[name][1]) for name in order],
        {name: known_accuracy(models, *one) for name, one in (further or {}).items()},
        time.process_time() - started,
    )


def learned(  # how, from where, what, how long
    way: Way,
    first: State,
    train: Mapping[str, Samples],
    *,
    seed: int,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
) -> Iterator[Models]:
    """Yield the models after each stage; once if all is learned at once, or each apart."""
    alike: dict[str, Any] = {
        "seed": seed,
        "part_name": way.part_name,
        "learning_rate": learning_rate,
    }
    if way.learns == "at once":
        state = learn_jointly(first, train, **alike, steps=len(train) * steps)
        yield dict.fromkeys(train, state)
        return
    alike |= {"method": way.method(), "freeze_trunk": way.freeze_trunk, "steps": steps}
    if way.learns == "apart":
        yield {name: learn_stage(first, name, one, **alike) for name, one in train.items()}
        return
    state = first
    for name, samples in train.items():
        state = learn_stage(state, name, samples, **alike)
        yield dict.fromkeys(state.modalities, state)


def known_accuracy(models: Models, name: str, samples: Samples) -> float:
    """Return the accuracy on samples of a modality that is told; NaN without samples."""
    state = models[name]
    return _accuracy(len(state.classes), lambda one: state.logits(name, one), samples)


def routed_accuracy(models: Models, samples: Samples) -> float:
    """Return the accuracy on samples of which nobody says the modality; NaN without samples."""
    classes = len(next(iter(models.values())).classes)
    return _accuracy(classes, lambda one: predict_by(models, one).probabilities, samples)


def _accuracy(classes: int, answer: Callable[[Tensor], Tensor], samples: Samples) -> float:
    counted = torch.zeros(classes, classes, dtype=torch.long)
    for inputs, labels in samples:
        said = answer(inputs).argmax(dim=1)
        counted += confusion_matrix(labels, said, num_classes=classes)
    return accuracy(counted)
