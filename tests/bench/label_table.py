"""Tables of the trials: what each remedy gave, and what rules of the guard would have chosen.

`python -m tests.bench.label_table FOLDER` reads what `tests.bench.label_trials` wrote there.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MIX = re.compile(r"phase2-(\d+) epoch (\d+) alpha ([\d.]+) 0")
NEAR = 0.005
Row = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A candidate: how far it went, what speaks for it without a label, and how right it is."""

    far: tuple[int, int, float]  # iteration, epoch, mix; zero-shot is (0, 0, 0), Phase I (0, 1, 0)
    agreement: float  # of both networks on the held-out images
    neighbours: float  # of their mean with the neighbours' labels, on the held-out images
    test: float


def main() -> None:
    """Print both tables."""
    folder = Path(sys.argv[1])
    rows = [json.loads(line) for file in folder.glob("*.jsonl") for line in file.open()]
    last = {(_cell(row), _what(row["options"])): row for row in rows}  # of equal trials
    rows = sorted(last.values(), key=lambda row: (_cell(row), row["name"]))
    lines = [*_of_remedies(rows), "", *_of_rules(rows, folder)]
    sys.stdout.write("\n".join(lines) + "\n")


def _of_remedies(rows: list[Row]) -> Iterator[str]:
    yield (
        "| data | what | zero-shot | Phase I | neighbours: pool | labels, right | Phase II: first, "
        "best, last | recall | teacher | CPU s |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        epochs = [
            row[name] for name in row if re.fullmatch(r"phase2-\d+ epoch \d+", name) is not None
        ]
        teachers = [row[name]["test"] for name in row if name.endswith("teacher")]
        pool = [f"{row[name]['pool']:.3f}" for name in row if name.startswith("neighbours-")]
        tests = [epoch["test"] for epoch in epochs]
        last = epochs[-1] if epochs else {}
        cells = [
            _cell(row),
            _what(row["options"]),
            f"{row['zero-shot']['test']:.3f} ({row['zero-shot']['recall']:.3f})",
            f"{row['phase1']['test']:.3f} ({row['phase1']['recall']:.3f})",
            f"{row['phase1']['pool']:.3f} → " + ", ".join(pool),
            f"{last.get('labels', 0):.0f}, {last.get('precision', 0):.3f}",
            ", ".join(f"{value:.3f}" for value in (tests[0], max(tests), tests[-1]) if tests)
            if tests
            else "",
            f"{last['recall']:.3f}" if last else "",
            f"{teachers[-1]:.3f}" if teachers else "",
            f"{row['seconds']:.0f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _of_rules(rows: list[Row], folder: Path) -> Iterator[str]:
    yield (
        "| data | what | best of all | networks agree | with neighbours | last epoch | zero-shot |"
    )
    yield "|---|---|---|---|---|---|---|"
    every: list[list[float]] = []
    for row in rows:
        file = folder / f"{row['name']}.npz"
        if not file.exists() or not row.get("guard-1"):
            continue
        judged = list(_judged(np.load(file)))
        num = len(np.load(file)["held_out"])
        networks = [one for one in judged if one.far > (0, 0, 0)]
        chosen = [
            max(judged, key=lambda one: one.test),
            _furthest(networks, [one.agreement for one in networks], num),
            _furthest(judged, [one.neighbours for one in judged], num),
            max(judged, key=lambda one: one.far),
            judged[0],
        ]
        every.append([one.test for one in chosen])
        cells = [f"{one.test:.3f} {_name(one)}" for one in chosen]
        yield f"| {_cell(row)} | {_what(row['options'])} | {' | '.join(cells)} |"
    tests = np.array(every)
    lost = tests[:, :1] - tests
    for name, values in (
        ("mean", tests.mean(axis=0)),
        ("lost against the best: mean", lost.mean(axis=0)),
        ("lost: most", lost.max(axis=0)),
        ("below zero-shot: most", (tests[:, -1:] - tests).max(axis=0)),
        ("within half a point of the best", (lost <= NEAR).mean(axis=0)),
    ):
        yield f"| {name} | {len(tests)} trials | {' | '.join(f'{v:.3f}' for v in values)} |"


def _furthest(candidates: list[Judged], evidence: list[float], num: int) -> Judged:
    """Return the candidate that went furthest within one standard error of the best evidence."""
    best = max(evidence)
    floor = best - math.sqrt(best * (1 - best) / num)
    good = [one for one, value in zip(candidates, evidence, strict=True) if value >= floor]
    return max(good, key=lambda one: one.far)


def _judged(kept: Any) -> Iterator[Judged]:
    """Yield zero-shot, Phase I, and every epoch and mix of Phase II."""
    names = {(0, 0, 0.0): ["zero-shot"], (0, 1, 0.0): ["phase1-0", "phase1-1"]}
    for name in kept.files:
        if found := MIX.fullmatch(name):
            iteration, epoch, alpha = found.groups()
            names[int(iteration), int(epoch), float(alpha)] = [name, f"{name[:-1]}1"]
    held_out, truth = len(kept["held_out"]), kept["test"]
    believed = kept["neighbours-1"].argmax(axis=1)
    for far, members in names.items():
        said = [_softmax(kept[name].astype(np.float32)) for name in members]
        classes = [one.argmax(axis=1) for one in said]
        mean = np.mean(said, axis=0).argmax(axis=1)
        yield Judged(
            far=far,
            agreement=float((classes[0] == classes[-1])[:held_out].mean()),
            neighbours=float((mean == believed)[:held_out].mean()),
            test=float((mean[held_out:] == truth).mean()),
        )


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _name(one: Judged) -> str:
    iteration, epoch, alpha = one.far
    if not iteration:
        return "(Phase I)" if epoch else "(zero-shot)"
    return f"({f'{iteration}: ' if iteration > 1 else ''}{epoch}, {alpha})"


def _cell(row: Row) -> str:
    options = row["options"]
    size = "" if options["pool"] == "None" else f" ({options['pool']})"
    return f"{options['data']}{size}, {options['balance']}, seed {options['seed']}"


def _what(options: dict[str, str]) -> str:
    said = re.findall(r"[\w-]+", options["remedies"])
    usual = {
        "k": "10",
        "alpha": "0.9",
        "iterations": "1",
        "min_steps": "0",
        "epochs": "None",
        "momentum": "0.99",
        "threshold": "0.8",
        "prior": "soft",
        "weight": "1.0",
    }
    said += [
        f"{name} {options[name]}"
        for name, value in usual.items()
        if options.get(name, value) not in {value, "None"}
    ]
    return ", ".join(said) or "as coft"


if __name__ == "__main__":
    main()
