"""Features of three classes in three modalities, of which two have one width."""

from typing import Any

import torch
from torch import Tensor

from clipcore.harmony.stage import Method, learn_stage
from clipcore.harmony.state import State, new_state
from tests.worlds.tensors import draws, random_features

CLASSES, WIDTHS = ("one", "two", "three"), {"photo": 20, "sketch": 20, "sound": 12}
ANCHORS = random_features(len(CLASSES), 24, seed=3)
STEPS, RATE = 30, 1e-2


def samples(name: str, count: int = 90, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return inputs that a mean of each class tells apart, other ones in each modality."""
    places = torch.randn(len(CLASSES), WIDTHS[name], generator=draws(sum(map(ord, name))))
    labels = torch.arange(count) % len(CLASSES)
    noise = torch.randn(count, WIDTHS[name], generator=draws(seed + 100))
    return 2 * places[labels] + noise + 3 * (name == "sketch"), labels


def fresh(trunk: Any = "mlp", seed: int = 0) -> State:
    """Return a model that has seen no modality."""
    return new_state(CLASSES, ANCHORS, scale=17.4, seed=seed, trunk=trunk, dim=32)


def learned(state: State, name: str, method: Method, **options: Any) -> State:
    """Return a state after a short stage."""
    usual: dict[str, Any] = {"seed": 0, "steps": STEPS, "learning_rate": RATE}
    return learn_stage(state, name, [samples(name)], method=method, **(usual | options))


def accuracy(state: State, name: str) -> float:
    """Return the accuracy on other samples of a modality."""
    inputs, labels = samples(name, seed=1)
    return float((state.logits(name, inputs).argmax(dim=1) == labels).float().mean())
