"""What rules of the guard would have chosen in the trials, and how right that is.

`python -m tests.bench.guard_table FOLDER ...` reads what `tests.bench.label_trials` wrote there. A
rule goes furthest within so many standard errors of the candidate with the best evidence, which is
of held-out images and needs no label; labels of the test images say what the choice was worth.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipcore.coft.guard import coherence
from tests.bench.label_table import cell, read_trials, what

EPOCH = re.compile(r"phase2-(\d+) epoch (\d+) alpha ([\d.]+) 0")
NEAR = 0.005


@dataclass(frozen=True)
class Judged:
    """A candidate: how far it went, what speaks for it without a label, and how right it is."""

    far: tuple[int, int, float]  # iteration, epoch, mix; zero-shot is (0, 0, 0), Phase I (0, 1, 0)
    agreement: float  # of both networks
    neighbours: float  # of their mean with the neighbours' labels of Phase I
    coherence: float  # of their mean: the guard's own measure
    test: float
    num: int  # of held-out images


Rule = Callable[[Sequence[Judged]], Judged]


def main() -> None:
    """Print what each rule chose in each trial, and in the mean."""
    rows = [row for row in read_trials(sys.argv[1:]) if row.get("guard-1")]
    yielded = [f"| {' | '.join(['data', 'what', *RULES])} |", "|---" * (len(RULES) + 2) + "|"]
    every = []
    for row in rows:
        judged = list(_judged(np.load(Path(row["folder"]) / f"{row['name']}.npz")))
        chosen = [rule(judged) for rule in RULES.values()]
        every.append([one.test for one in chosen])
        cells = [f"{one.test:.3f} {_name(one)}" for one in chosen]
        yielded.append(f"| {cell(row)} | {what(row['options'])} | {' | '.join(cells)} |")
    yielded += _summary(np.array(every))
    sys.stdout.write("\n".join(yielded) + "\n")


def _summary(tests: np.ndarray) -> Iterator[str]:
    lost = tests[:, :1] - tests
    for name, values in (
        ("mean", tests.mean(axis=0)),
        ("lost against the best: mean", lost.mean(axis=0)),
        ("lost: most", lost.max(axis=0)),
        ("below zero-shot: most", (tests[:, -1:] - tests).max(axis=0)),
        ("within half a point of the best", (lost <= NEAR + 1e-9).mean(axis=0)),
    ):
        yield f"| {name} | {len(tests)} trials | {' | '.join(f'{v:.3f}' for v in values)} |"


def _furthest(evidence: Callable[[Judged], float], errors: float, *parts: str) -> Rule:
    """Return the rule of an evidence: so many standard errors, among networks, mixes, zero-shot."""

    def rule(judged: Sequence[Judged]) -> Judged:
        networks = [one for one in judged[1:] if "mixes" in parts or one.far[2] in {0.0, 1.0}]
        candidates = [*judged[: "zero-shot" in parts], *networks]
        best = max(evidence(one) for one in candidates)
        floor = best - errors * math.sqrt(best * (1 - best) / judged[0].num)
        return max((one for one in candidates if evidence(one) >= floor), key=lambda one: one.far)

    return rule


def _agreement(one: Judged) -> float:
    return one.agreement


def _neighbours(one: Judged) -> float:
    return one.neighbours


def _coherence(one: Judged) -> float:
    return one.coherence


def _both(one: Judged) -> float:
    return (one.agreement + one.neighbours) / 2


RULES: dict[str, Rule] = {
    "best": lambda judged: max(judged, key=lambda one: one.test),
    "networks agree, 1 error, mixes": _furthest(_agreement, 1, "mixes"),
    "networks agree, 1 error": _furthest(_agreement, 1),
    "networks agree, 2 errors": _furthest(_agreement, 2),
    "neighbours, 1 error, mixes": _furthest(_neighbours, 1, "mixes", "zero-shot"),
    "neighbours, 1 error": _furthest(_neighbours, 1, "zero-shot"),
    "neighbours, 2 errors": _furthest(_neighbours, 2, "zero-shot"),
    "mean of both, 2 errors": _furthest(_both, 2),
    "coherence, 1 error, mixes (coft)": _furthest(_coherence, 1, "mixes", "zero-shot"),
    "coherence, best, mixes": _furthest(_coherence, 0, "mixes", "zero-shot"),
    "coherence, 1 error": _furthest(_coherence, 1, "zero-shot"),
    "last epoch": lambda judged: max(judged, key=lambda one: one.far),
    "Phase I": lambda judged: judged[1],
    "zero-shot": lambda judged: judged[0],
}


def _judged(kept: Any) -> Iterator[Judged]:
    """Yield zero-shot, Phase I, and every epoch and mix of Phase II."""
    names = {(0, 0, 0.0): ["zero-shot"], (0, 1, 0.0): ["phase1-0", "phase1-1"]}
    for name in kept.files:
        if found := EPOCH.fullmatch(name):
            iteration, epoch, alpha = found.groups()
            names[int(iteration), int(epoch), float(alpha)] = [name, f"{name[:-1]}1"]
    num, truth = len(kept["held_out"]), kept["test"]
    believed = kept["neighbours-1"].argmax(axis=1)
    features = torch.from_numpy(kept["features"][:num].astype(np.float32))
    for far, members in names.items():
        said = [_softmax(kept[name].astype(np.float32)) for name in members]
        classes = [one.argmax(axis=1) for one in said]
        mean = np.mean(said, axis=0).argmax(axis=1)
        yield Judged(
            far=far,
            agreement=float((classes[0] == classes[-1])[:num].mean()),
            neighbours=float((mean == believed)[:num].mean()),
            coherence=coherence(
                torch.from_numpy(mean[:num]), features, num_classes=said[0].shape[1]
            ),
            test=float((mean[num:] == truth).mean()),
            num=num,
        )


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _name(one: Judged) -> str:
    iteration, epoch, alpha = one.far
    if not iteration:
        return "(Phase I)" if epoch else "(zero-shot)"
    return f"({f'{iteration}: ' if iteration > 1 else ''}{epoch}, {alpha})"


if __name__ == "__main__":
    main()
