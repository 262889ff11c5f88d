"""Images of a trial in memory: decoded once, kept on disk, drawn at one of three balances."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.images import read_pixels
from clipcore.inference import BATCH_ON_CPU, Encoder
from flows.demo import demo_spec
from tasks.compare import cuts, specs
from tasks.label.cross_filter import held_out
from tasks.specs import CoftSpec, PoolSpec
from tests.bench.measure import say

Balance = Literal["balanced", "long-tail", "absent"]
CUTS: dict[Balance, specs.Balance] = {
    "balanced": "as-is",
    "long-tail": "long-tail",
    "absent": "half-absent",
}
DIGITS = "digits"
MAX_PIXELS = 1_000_000


@dataclass(frozen=True)
class Images:
    """Images by rising id; of the pool first, then of the test split.

    Attributes:
        pixels: uint8 of shape (images, size, size, 3).
        labels: True classes, which nothing learns from.
        num_pool: How many of them are of the pool.
        is_held_out: Of the pool, what is kept for the guard.
    """

    pixels: Tensor
    labels: Tensor
    features: Tensor
    num_pool: int
    is_held_out: Tensor
    classes: tuple[str, ...]


def spec_of(data: str, bench: Path, cache: Path, seed: int) -> CoftSpec:
    """Return the run that coft itself makes of a data set, with its defaults."""
    if data == DIGITS:
        return demo_spec(str(cache), seed=seed)
    return CoftSpec(pool=PoolSpec(images=str(bench / f"{data}.parquet")), seed=seed)


def read_images(  # what a trial is about
    spec: CoftSpec,
    backbone: Backbone,
    cache: Path,
    *,
    balance: Balance,
    most: tuple[int | None, int | None],
) -> Images:
    """Return the images of a trial, with the features of the backbone as it comes.

    Args:
        spec: Which file of images, and which share is held out.
        backbone: Whose pixels and features they are.
        cache: Where pixels and features stay for the next trial.
        balance: All images; a long tail of `cuts.RATIO`; or half of the classes, of whose images
            there are none, while the list of classes is the same. Pool and test are drawn alike.
        most: Images of the pool and of the test split; by default all.
    """
    table = pq.read_table(spec.pool.images)
    classes = _classes(table)
    ids = [hashlib.sha256(image.as_py()).hexdigest() for image in table["image"]]
    labels = torch.tensor([classes.index(name) for name in table["label"].to_pylist()])
    is_test = np.array(table["split"].to_pylist()) == "test"
    pixels, features = _decoded(spec, backbone, cache, table["image"])
    taken = np.isin(np.arange(len(ids)), _drawn(labels, ids, is_test, balance, len(classes)))
    order = np.argsort(np.array(ids))
    pool = order[taken[order] & ~is_test[order]][: most[0]]
    rows = np.concatenate([pool, order[taken[order] & is_test[order]][: most[1]]])
    out = held_out([ids[row] for row in pool], spec.phase2.holdout, spec.seed)
    at = torch.from_numpy(rows)
    return Images(
        pixels=torch.from_numpy(pixels[rows]),
        labels=labels[at],
        features=features[at],
        num_pool=len(pool),
        is_held_out=torch.from_numpy(out.copy()),
        classes=classes,
    )


def encode(backbone_or_network: torch.nn.Module, pixels: Tensor) -> Tensor:
    """Return normalised features of the visual tower as it is now."""
    encoder = Encoder(backbone_or_network.visual)  # type: ignore[arg-type]
    return torch.cat([encoder(batch) for batch in pixels.split(BATCH_ON_CPU)])


def _classes(table: "pq.Table") -> tuple[str, ...]:
    import json

    return tuple(json.loads(table.schema.metadata[b"classes"]))


def _decoded(
    spec: CoftSpec, backbone: Backbone, cache: Path, images: "pq.Column"
) -> tuple[np.ndarray, Tensor]:
    name = Path(spec.pool.images).stem
    kept = cache / f"{name}-{backbone.name.replace(':', '-')}"
    pixels_file, features_file = kept.with_suffix(".pixels.npy"), kept.with_suffix(".features.npy")
    if not features_file.exists():
        say(f"  decoding and encoding {len(images):,} images of {name}")
        preprocess = backbone.visual.preprocess
        read = [read_pixels(image.as_py(), preprocess, max_pixels=MAX_PIXELS) for image in images]
        np.save(pixels_file, np.stack(read))
        np.save(features_file, encode(backbone, torch.from_numpy(np.stack(read))).numpy())
    return np.load(pixels_file, mmap_mode="r"), torch.from_numpy(np.load(features_file))


def _drawn(
    labels: Tensor, ids: list[str], is_test: np.ndarray, balance: Balance, num_classes: int
) -> list[int]:
    """Return the rows at a balance; of a class the lowest ids, which are hashes, so a fair draw."""
    shares = cuts.shares([1] * num_classes, CUTS[balance])
    chosen: list[int] = []
    for split in (True, False):
        for label, share in enumerate(shares):
            rows = np.flatnonzero((labels.numpy() == label) & (is_test == split)).tolist()
            chosen += sorted(rows, key=ids.__getitem__)[: round(share * len(rows))]
    return chosen
