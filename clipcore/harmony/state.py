"""All that is known after some stages: trunk, anchors, and what is kept of each modality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.checkpoint import prefixed, under
from clipcore.harmony.bridging import Aggregation
from clipcore.harmony.memory import ClassStatistics
from clipcore.harmony.routing import Likeness, route
from clipcore.harmony.stem import WIDTH, Stem
from clipcore.harmony.trunk import (
    Adapter,
    Part,
    PartName,
    Trunk,
    TrunkName,
    anchor_logits,
    new_part,
    new_trunk,
)
from clipcore.seeding import generator

MOST_SCALE = 17.4  # of the logits: with CLIP's own 100 a stage is learned by heart


class UnknownModality(ValueError):
    """A modality that no stage has learned."""


@dataclass(frozen=True)
class Modality:
    """What is kept of one modality; nothing in it grows with the number of its samples.

    Attributes:
        stem: Of its inputs.
        part: What it has of its own in the trunk.
        aggregation: How it listens to the branches of earlier modalities, if it does.
        inputs: Statistics of what the stem made, for each class.
        outputs: Statistics of the features.
        likeness: What its inputs look like, to know others by.
    """

    stem: Stem
    part: Part | None
    aggregation: Aggregation | None
    inputs: ClassStatistics
    outputs: ClassStatistics
    likeness: Likeness

    @property
    def num_bytes(self) -> int:
        """Bytes of its memory: statistics and likeness, without stem and part."""
        likeness = self.likeness.mean.nbytes + self.likeness.variance.nbytes
        return self.inputs.num_bytes + self.outputs.num_bytes + likeness


@dataclass(frozen=True)
class State:
    """One model for all modalities so far.

    Attributes:
        classes: Names, in the order of the anchors.
        anchors: Their text embeddings, L2-normalised.
        scale: Of the logits.
        dim: Numbers that a stem makes.
        trunk_name: Which network `trunk` is.
        trunk: What all modalities share.
        modalities: What is kept of each, in the order in which they came.
    """

    classes: tuple[str, ...]
    anchors: Float[Tensor, "classes out"]
    scale: float
    dim: int
    trunk_name: TrunkName
    trunk: Trunk
    modalities: Mapping[str, Modality]

    def modality(self, name: str) -> Modality:
        """Return what is kept of a modality.

        Raises:
            UnknownModality: no stage has learned it.
        """
        if name not in self.modalities:
            known = ", ".join(self.modalities) or "none"
            raise UnknownModality(f"expected one of the modalities learned ({known}), got {name}")
        return self.modalities[name]

    @torch.no_grad()
    def features(
        self, name: str, inputs: Float[Tensor, "samples width"]
    ) -> Float[Tensor, "samples out"]:
        """Return L2-normalised features of inputs of a modality."""
        modality = self.modality(name)
        h = modality.stem(inputs)
        feature: Tensor = self.trunk(h, modality.part)
        if modality.aggregation is None:
            return feature
        earlier = takewhile(lambda one: one is not modality, self.modalities.values())
        branches = [self.trunk(h, one.part) for one in earlier]
        aggregated: Tensor = modality.aggregation(feature, [*branches, feature])
        return aggregated

    @property
    def last_part(self) -> Part | None:
        """What the modality that came last has of its own in the trunk."""
        return next((one.part for one in reversed(list(self.modalities.values()))), None)

    def scores(self, features: Float[Tensor, "batch out"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of every class for features of any trunk."""
        return anchor_logits(features, self.anchors, self.scale)

    def logits(
        self, name: str, inputs: Float[Tensor, "samples width"]
    ) -> Float[Tensor, "samples classes"]:
        """Return the logits of every class for inputs of a modality."""
        return self.scores(self.features(name, inputs))


@dataclass(frozen=True)
class Prediction:
    """What is said of samples.

    Attributes:
        probabilities: Of each class.
        modalities: The modality that each sample was taken for.
        certainty: The probability of that modality; 1 where it was given.
    """

    probabilities: Float[Tensor, "samples classes"]
    modalities: Sequence[str]
    certainty: Float[Tensor, " samples"]


def new_state(  # what is learned, and by what
    classes: Sequence[str],
    anchors: Float[Tensor, "classes out"],
    *,
    scale: float,
    seed: int,
    trunk: TrunkName = "mlp",
    dim: int = WIDTH,
) -> State:
    """Return a model that has seen no modality.

    Args:
        classes: Names.
        anchors: Text embeddings of the names, L2-normalised.
        scale: Logit scale of the backbone that made them; at most `MOST_SCALE` is used.
        seed: Of the trunk's start.
        trunk: Which network.
        dim: Numbers that a stem makes.
    """
    network = new_trunk(trunk, dim, anchors.shape[1], generator(seed, "harmony", "trunk"))
    used = min(scale, MOST_SCALE)
    return State(tuple(classes), anchors.float(), used, dim, trunk, network, {})


def with_classes(
    state: State, classes: Sequence[str], anchors: Float[Tensor, "classes out"]
) -> State:
    """Return the state with further classes behind those that it has.

    Args:
        state: What is known.
        classes: The further names.
        anchors: Their text embeddings, L2-normalised.
    """
    count = len(state.classes) + len(classes)
    grown = {
        name: replace(one, inputs=one.inputs.grown(count), outputs=one.outputs.grown(count))
        for name, one in state.modalities.items()
    }
    both = torch.cat([state.anchors, anchors.float()])
    return replace(state, classes=(*state.classes, *classes), anchors=both, modalities=grown)


def predict(
    state: State, inputs: Float[Tensor, "samples width"], modality: str | None = None
) -> Prediction:
    """Return class probabilities of samples of a modality, or of the one that they look like.

    Raises:
        UnknownModality: no stage has learned it.
        WrongWidth: the inputs are of another width than those of the modality.
        ValueError: no modality has inputs of this width.
    """
    if modality is not None:
        probabilities = state.logits(modality, inputs).softmax(dim=1)
        return Prediction(probabilities, [modality] * len(inputs), torch.ones(len(inputs)))
    return predict_by(dict.fromkeys(state.modalities, state), inputs)


def predict_by(models: Mapping[str, State], inputs: Float[Tensor, "samples width"]) -> Prediction:
    """Return class probabilities, each sample's by the model of the modality that it looks like.

    Args:
        models: Of each modality, all of the same classes; they may be one model.
        inputs: Samples.

    Raises:
        ValueError: no modality has inputs of this width.
    """
    likeness = {name: model.modality(name).likeness for name, model in models.items()}
    names, sure = route(inputs, likeness)
    probabilities = torch.zeros(len(inputs), len(next(iter(models.values())).classes))
    for name in dict.fromkeys(names):
        rows = torch.tensor([index for index, one in enumerate(names) if one == name])
        probabilities[rows] = models[name].logits(name, inputs[rows]).softmax(dim=1)
    return Prediction(probabilities, names, sure)


def to_tensors(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return all of a state as tensors and JSON values; `from_tensors` undoes it."""
    tensors = {"anchors": state.anchors, **prefixed("trunk", state.trunk.state_dict())}
    kept = []
    for number, (name, one) in enumerate(state.modalities.items()):
        parts = {
            "stem.mean": one.stem.mean,
            "stem.components": one.stem.components,
            **prefixed("inputs", one.inputs.tensors()),
            **prefixed("outputs", one.outputs.tensors()),
            "likeness.mean": one.likeness.mean,
            "likeness.variance": one.likeness.variance,
            **(prefixed(_name(one.part), one.part.state_dict()) if one.part else {}),
            **(prefixed("aggregation", one.aggregation.state_dict()) if one.aggregation else {}),
        }
        tensors |= prefixed(f"modality.{number}", parts)
        kept.append(name)
    header = {"classes": list(state.classes), "scale": state.scale, "modalities": kept}
    return tensors, {**header, "trunk": state.trunk_name, "dim": state.dim}


def from_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> State:
    """Return the state that `to_tensors` took apart."""
    anchors = tensors["anchors"]
    state = new_state(
        header["classes"],
        anchors,
        scale=header["scale"],
        seed=0,
        trunk=header["trunk"],
        dim=header["dim"],
    )
    state.trunk.load_state_dict(under("trunk", tensors))
    names = header["modalities"]
    modalities = {
        name: _modality(under(f"modality.{number}", tensors), state.trunk, number)
        for number, name in enumerate(names)
    }
    return replace(state, modalities=modalities)


def _modality(tensors: Mapping[str, Tensor], trunk: Trunk, number: int) -> Modality:
    stem = Stem(tensors["stem.mean"], tensors["stem.components"])
    part, aggregation = None, None
    kinds: tuple[PartName, ...] = ("adapter", "prompts")
    for kind in kinds:
        if learned := under(kind, tensors):
            part = new_part(kind, trunk, stem.components.shape[1], generator(0))
            cast("Part", part).load_state_dict(learned)
    if learned := under("aggregation", tensors):
        aggregation = Aggregation(learned["query"].shape[0], number + 1, generator(0))
        aggregation.load_state_dict(learned)
    return Modality(
        stem,
        part,
        aggregation,
        ClassStatistics(**under("inputs", tensors)),
        ClassStatistics(**under("outputs", tensors)),
        Likeness(**under("likeness", tensors)),
    )


def _name(part: Part) -> PartName:
    return "adapter" if isinstance(part, Adapter) else "prompts"
