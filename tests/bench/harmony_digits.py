"""Harmony beside other ways of keeping what was learned: ten digits in four modalities.

    python -m tests.bench.harmony_digits --seeds 3 --order image sound stroke text

Features only, from `../shared/bench/modalities`; accuracy of each modality after the last stage,
forgetting F, and accuracy right after each modality's own stage.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from clipcore.backbone import load
from clipcore.harmony.baselines import Ewc, L2p, Lwf, Nothing, Replay, learn_jointly
from clipcore.harmony.keeping import Harmony
from clipcore.harmony.stage import STEPS, Method, learn_stage
from clipcore.harmony.state import State, new_state
from clipcore.harmony.trunk import PartName, TrunkName
from clipcore.zero_shot import class_embeddings

FOLDER = Path(__file__).parents[3] / "shared" / "bench" / "modalities"
SCALE = 17.4
Split = tuple[Tensor, Tensor]
Data = dict[str, dict[str, Split]]

METHODS: dict[str, tuple[Callable[[], Method], dict[str, Any]]] = {
    "harmony": (Harmony, {}),
    "harmony, rho 0": (lambda: Harmony(rho=0.0), {}),
    "harmony, rho 1": (lambda: Harmony(rho=1.0), {}),
    "harmony, all parts": (lambda: Harmony(instance=0.1, distribution=0.1), {}),
    "harmony, no adapters": (Harmony, {"part_name": "none"}),
    "harmony as written": (Harmony.as_written, {}),
    "harmony, frozen trunk, aggregated": (
        lambda: Harmony(retention=0.0, aggregate=True),
        {"freeze_trunk": True},
    ),
    "sequential": (Nothing, {"part_name": "none"}),
    "sequential + adapters": (Nothing, {}),
    "adapters only": (Nothing, {"freeze_trunk": True}),
    "LwF + adapters": (Lwf, {}),
    "L2P": (L2p, {"part_name": "prompts", "freeze_trunk": True}),
    "EWC": (Ewc, {"part_name": "none"}),
    "EWC + adapters": (Ewc, {}),
    "replay, 5 a class + adapters": (lambda: Replay(5), {}),
    "replay, 20 a class": (lambda: Replay(20), {"part_name": "none"}),
    "replay, 20 a class + adapters": (lambda: Replay(20), {}),
}


def main() -> None:
    """Print a row of each method."""
    options = _options()
    data, classes = read(options.order)
    anchors = class_embeddings(load("embedded:glyph"), classes, ["digit {}"])
    others = ["joint", "joint + adapters", "separate"]
    others += [f"{name}, transformer" for name in ("harmony", "sequential", "adapters only")]
    for name in options.methods or [*METHODS, *others]:
        runs = [run(name, data, classes, anchors, seed) for seed in range(options.seeds)]
        sys.stdout.write(json.dumps({"method": name, **_means(runs)}) + "\n")
        sys.stdout.flush()


def read(order: list[str]) -> tuple[Data, list[str]]:
    """Return inputs and labels of each split of each modality, and the class names."""
    found: Data = {}
    for name in order:
        table = pq.read_table(FOLDER / f"{name}.parquet")
        classes: list[str] = json.loads(table.schema.metadata[b"classes"])
        vectors = table["embedding"].combine_chunks()
        inputs = torch.from_numpy(np.stack(vectors.to_numpy(zero_copy_only=False))).float()
        labels = torch.tensor([classes.index(label) for label in table["label"].to_pylist()])
        split = np.array(table["split"].to_pylist())
        rows = {one: torch.from_numpy(np.flatnonzero(split == one)) for one in set(split)}
        found[name] = {one: (inputs[at], labels[at]) for one, at in rows.items()}
    return found, classes


def run(name: str, data: Data, classes: list[str], anchors: Tensor, seed: int) -> dict[str, float]:
    """Return what a method came to."""
    started = time.process_time()
    kind: TrunkName = "transformer" if name.endswith("transformer") or name == "L2P" else "mlp"
    first = new_state(classes, anchors, scale=SCALE, seed=seed, trunk=kind)
    train = {modality: [splits["train"]] for modality, splits in data.items()}
    if name.startswith("joint"):
        part_name: PartName = "adapter" if "adapters" in name else "none"
        states = [
            learn_jointly(first, train, seed=seed, part_name=part_name, steps=len(data) * STEPS)
        ]
        after = [{one: accuracy(states[0], one, data[one]["test"]) for one in data}] * len(data)
    elif name == "separate":
        alone = {
            one: learn_stage(first, one, split, method=Nothing(), seed=seed)
            for one, split in train.items()
        }
        states = list(alone.values())
        after = [{one: accuracy(alone[one], one, data[one]["test"]) for one in data}] * len(data)
    else:
        make, more = METHODS[name.removesuffix(", transformer")]
        method, state, states, after = make(), first, [], []
        for one, split in train.items():
            state = learn_stage(state, one, split, method=method, seed=seed, **more)
            states.append(state)
            after.append({m: accuracy(state, m, data[m]["test"]) for m in state.modalities})
    found = {**_summary(after, list(data)), "seconds": time.process_time() - started}
    if name != "separate" and "human" in data.get("sound", {}):
        found["human"] = accuracy(states[-1], "sound", data["sound"]["human"])
    return found


def accuracy(state: State, name: str, split: Split) -> float:
    """Return the share of a split that is right."""
    inputs, labels = split
    return float((state.logits(name, inputs).argmax(dim=1) == labels).float().mean())


def _summary(after: list[dict[str, float]], names: list[str]) -> dict[str, float]:
    last = after[-1]
    own = [stage[name] for stage, name in zip(after, names, strict=True)]
    lost = [max(stage.get(name, 0.0) for stage in after) - last[name] for name in names[:-1]]
    means = {"avg": np.mean(list(last.values())), "F": np.mean(lost), "learn": np.mean(own)}
    return {**{key: float(value) for key, value in means.items()}, **last}


def _means(runs: list[dict[str, float]]) -> dict[str, float]:
    means = {key: round(float(np.mean([one[key] for one in runs])), 3) for key in runs[0]}
    return {**means, "std": round(float(np.std([one["avg"] for one in runs])), 3)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--order", nargs="+", default=["image", "sound", "stroke", "text"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="*")
    return parser.parse_args()


if __name__ == "__main__":
    main()
