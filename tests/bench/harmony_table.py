"""Rows of a table of ways to learn modalities in turn, for the `harmony_*` scripts beside it."""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clipcore.harmony.comparison import METHODS, Data, Outcome, Way, run_way
from clipcore.harmony.matrix import average_accuracy, forgetting, learned_accuracy
from clipcore.harmony.samples import Samples
from clipcore.harmony.stage import LEARNING_RATE, STEPS
from clipcore.harmony.stem import WIDTH
from clipcore.seeding import generator

SCALE = 17.4


@dataclass(frozen=True)
class World:
    """What is learned and measured.

    Attributes:
        data: Of each modality, in the usual order.
        classes: Names.
        anchors: Their text embeddings.
        further: Samples to measure on as well, and the modality of which they are.
    """

    data: Data
    classes: list[str]
    anchors: Tensor
    further: Mapping[str, tuple[str, Samples]] = field(default_factory=dict)


def options(
    description: str | None, ways: Mapping[str, Way], *, cached: bool = False
) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--order", nargs="+", help="of the modalities; all of them by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=ways, default=list(METHODS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--validation", action="store_true", help="measure on a fifth of what is learned from"
    )
    parser.add_argument("--trunk", choices=["mlp", "transformer"], default="mlp")
    if cached:
        parser.add_argument("--cache", type=Path, required=True, help="for features")
    return parser.parse_args()


def print_rows(
    world: World,
    ways: Mapping[str, Way],
    asked: argparse.Namespace,
    *,
    learning_rate: float = LEARNING_RATE,
    dim: int = WIDTH,
) -> None:
    """Print a row of each method that is asked for, as soon as its seeds are done."""
    order = asked.order or list(world.data)
    data = validation(world.data) if asked.validation else world.data
    further = {} if asked.validation else world.further
    for name in asked.methods:
        runs = [
            run_way(
                ways[name],
                data,
                order,
                world.classes,
                world.anchors,
                scale=SCALE,
                seed=seed,
                steps=asked.steps,
                learning_rate=learning_rate,
                trunk=asked.trunk,
                dim=dim,
                further=further,
            )
            for seed in range(asked.seeds)
        ]
        sys.stdout.write(json.dumps({"method": name, **row(runs, order)}) + "\n")
        sys.stdout.flush()


def validation(data: Data) -> Data:
    """Return, of the samples to learn from alone, four fifths to learn from and one to measure on.

    Which ones depends on nothing but their number, so all settings are chosen on the same.
    """
    found: dict[str, tuple[Samples, Samples]] = {}
    for name, (train, _) in data.items():
        pieces = list(train)
        inputs, labels = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        order = torch.randperm(len(labels), generator=generator(0, "validation", name))
        held, kept = order.tensor_split([len(labels) // 5])
        found[name] = ([(inputs[kept], labels[kept])], [(inputs[held], labels[held])])
    return found


def row(runs: list[Outcome], order: list[str]) -> dict[str, float | None]:
    """Return means over seeds, and the deviation of the average accuracy."""
    each = [numbers(one, order) for one in runs]
    means: dict[str, float | None] = {}
    for key in each[0]:
        known = [value for one in each if (value := one[key]) is not None]
        means[key] = round(float(np.mean(known)), 4) if known else None
    averages = [average_accuracy(one.matrix) or 0.0 for one in runs]
    return {**means, "std": round(float(np.std(averages)), 4)}


def numbers(one: Outcome, order: list[str]) -> dict[str, float | None]:
    """Return the numbers of one run."""
    return {
        "average": average_accuracy(one.matrix),
        "unknown": average_accuracy([one.routed]),
        "F": forgetting(one.matrix),
        "own stage": learned_accuracy(one.matrix),
        **dict(zip(order, one.matrix[-1], strict=True)),
        **one.further,
        "seconds": one.seconds,
    }
