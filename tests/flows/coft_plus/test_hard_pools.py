"""Pools that are hard to learn from: each runs or says why not, and none ships a worse model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.specs import (
    AdapterSpec,
    BackboneSpec,
    CoftSpec,
    ContrastSpec,
    LabelSpec,
    Phase1Spec,
    Phase2Spec,
    PlusSpec,
    PoolSpec,
    RuntimeSpec,
    TopSpec,
)
from tests.worlds.images import encode
from tests.worlds.kills import Runs

pytestmark = [pytest.mark.usefixtures("prefect_session"), pytest.mark.timeout(600)]

COLOURS = [(220, 30, 30), (30, 200, 40), (40, 60, 220), (220, 200, 40)]


@dataclass(frozen=True)
class Pool:
    """How many images of which class there are to learn from, and the list of classes."""

    counts: dict[str, int]
    absent: tuple[str, ...] = ()
    noise: float = 40

    def write(self, path: Path) -> None:
        """Write them, and a quarter as many to test on, one at least."""
        draws = np.random.default_rng(0)
        rows = [
            {"image": self._draw(number, draws), "label": name, "split": split}
            for number, (name, count) in enumerate(self.counts.items())
            for split, size in (("pool", count), ("test", -(-count // 4)))
            for _ in range(size)
        ]
        table = pa.Table.from_pylist(rows)
        classes = json.dumps([*self.counts, *self.absent])
        pq.write_table(table.replace_schema_metadata({"classes": classes}), path)

    def _draw(self, number: int, draws: np.random.Generator) -> bytes:
        colour = np.roll(COLOURS[number % 4], number // 4) + 2 * (number // 12)
        pixels = draws.normal(colour, self.noise, (8, 8, 3)).clip(0, 255)
        return encode(pixels.astype(np.uint8), "PNG")


POOLS = {
    "twenty images": Pool({"red": 8, "green": 7, "blue": 5}),
    "two classes": Pool({"red": 30, "green": 30}),
    "classes that no image shows": Pool({"red": 20, "green": 20}, absent=("cat", "dog", "sea")),
    "two names of one thing": Pool({"red": 20, "green": 20}, absent=("scarlet", "the colour red")),
    "nine tenths of one class": Pool({"red": 90, "green": 6, "blue": 4}),
    "zero-shot at chance": Pool({"red": 20, "green": 20, "blue": 20}, noise=2000),
    "many classes of few images": Pool({f"thing {number}": 3 for number in range(100)}),
}


def adapt(runs: Runs, folder: Path, clip: Path, labels: str | None) -> dict[str, Any]:
    """Return the summary of a run about the images in a folder."""
    spec = CoftSpec(
        pool=PoolSpec(images=str(folder / "images.parquet"), labels=labels),
        method="coft-plus",
        backbone=BackboneSpec(name=f"local-dir:{clip}"),
        label=LabelSpec(templates=("{}",), top=TopSpec(per_class=4, min_total=0)),
        phase1=Phase1Spec(
            epochs=1, min_steps=0, batch_size=64, adapter=AdapterSpec(num_visual_prompts=2)
        ),
        phase2=Phase2Spec(epochs=1),
        plus=PlusSpec(rounds=1, contrast=ContrastSpec(weight=0.1)),
        runtime=RuntimeSpec(workspace=str(folder / "workspace")),
    )
    summary = folder / "summary.json"
    assert runs.run(spec, summary=summary).status == 0
    found: dict[str, Any] = json.loads(summary.read_text())
    return found


@pytest.mark.parametrize("name", POOLS)
def test_a_hard_pool_gives_a_model_that_is_no_worse_or_is_no_candidate(
    name: str, runs: Runs, tmp_path: Path, tiny_clip: Path
) -> None:
    POOLS[name].write(tmp_path / "images.parquet")
    measured = adapt(runs, tmp_path, tiny_clip, "column")
    assert len(measured["per_class"]) == len(POOLS[name].counts) + len(POOLS[name].absent)
    assert measured["accuracy"] >= measured["zero_shot_accuracy"] or not measured["healthy"]


def test_labels_change_neither_the_model_nor_what_a_run_thinks_of_it(
    runs: Runs, tmp_path: Path, tiny_clip: Path
) -> None:
    POOLS["twenty images"].write(tmp_path / "images.parquet")
    without = adapt(runs, tmp_path, tiny_clip, None)
    models = list(tmp_path.glob("workspace/models/*"))
    measured = adapt(runs, tmp_path, tiny_clip, "column")
    assert list(tmp_path.glob("workspace/models/*")) == models, "it is the same one"
    assert without["verdict"] == measured["verdict"]
    assert without["accuracy"] is None
    assert measured["accuracy"] is not None
