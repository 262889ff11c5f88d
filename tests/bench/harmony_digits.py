"""Harmony beside other ways of learning: ten digits in four modalities that come in turn.

    python -m tests.bench.harmony_digits --seeds 5 --order sound stroke text image
    python -m tests.bench.harmony_digits --seeds 2 --validation --methods harmony harmony-rho-0.0

Features only, from `../shared/bench/modalities`. A row of each method: mean accuracy after the last
stage, the same where nobody says the modality, forgetting F, accuracy right after each modality's
own stage, then each modality and the recordings of people, of which none is trained on.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from clipcore.backbone import load
from clipcore.harmony.baselines import Ewc, Lwf
from clipcore.harmony.comparison import METHODS, Way
from clipcore.harmony.keeping import Harmony
from clipcore.harmony.trunk import PartName
from clipcore.zero_shot import class_embeddings
from tests.bench.harmony_table import World, options, print_rows

FOLDER = Path(__file__).parents[3] / "shared" / "bench" / "modalities"
MODALITIES = ("image", "sound", "stroke", "text")

EWC: dict[str, PartName] = {"ewc": "none", "ewc-adapters": "adapter"}
KEPT, FISHER = METHODS["harmony"].keeps, METHODS["ewc"].keeps
VARIANTS = {
    "harmony-all-parts": Way(KEPT, partial(Harmony, instance=0.1, distribution=0.1)),
    "harmony-no-adapters": Way(KEPT, Harmony, part_name="none"),
    "harmony-frozen-aggregated": Way(
        KEPT, partial(Harmony, retention=0.0, aggregate=True), freeze_trunk=True
    ),
}
SETTINGS = {
    **{f"harmony-rho-{rho}": Way(KEPT, partial(Harmony, rho=rho)) for rho in (0.0, 1.0)},
    "harmony-retention-3": Way(KEPT, partial(Harmony, retention=3.0)),
    **{
        f"{name}-{weight}": Way(FISHER, partial(Ewc, weight), part_name=part)
        for name, part in EWC.items()
        for weight in (100, 5_000, 20_000)
    },
    **{f"lwf-adapters-{weight}": Way("nothing", partial(Lwf, weight)) for weight in (0.3, 1, 10)},
}


def main() -> None:
    """Print a row of each method."""
    ways = {**METHODS, **VARIANTS, **SETTINGS}
    print_rows(digits(), ways, options(__doc__, ways))


def digits() -> World:
    """Return the digits, in all modalities."""
    found = {name: splits(name) for name in MODALITIES}
    classes = json.loads(pq.read_schema(FOLDER / "image.parquet").metadata[b"classes"])
    anchors = class_embeddings(load("embedded:glyph"), classes, ["digit {}"])
    data = {name: ([one["train"]], [one["test"]]) for name, one in found.items()}
    return World(data, classes, anchors, {"human": ("sound", [found["sound"]["human"]])})


def splits(name: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Return inputs and labels of each split of a modality."""
    table = pq.read_table(FOLDER / f"{name}.parquet")
    classes: list[str] = json.loads(table.schema.metadata[b"classes"])
    vectors = table["embedding"].combine_chunks()
    inputs = torch.from_numpy(np.stack(vectors.to_numpy(zero_copy_only=False))).float()
    labels = torch.tensor([classes.index(label) for label in table["label"].to_pylist()])
    split = np.array(table["split"].to_pylist())
    rows = {one: torch.from_numpy(np.flatnonzero(split == one)) for one in set(split)}
    return {one: (inputs[at], labels[at]) for one, at in rows.items()}


if __name__ == "__main__":
    main()
