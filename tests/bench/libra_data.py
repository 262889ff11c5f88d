"""Feature maps of a data set in memory, kept on disk, and what is measured beside Libra on them."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from clipcore import zero_shot
from clipcore.active.probe import probe_accuracy
from clipcore.backbone import VisualTower, load
from clipcore.feature_maps import feature_map
from clipcore.head import Head
from clipcore.images import read_pixels
from clipcore.inference import BATCH_ON_CPU, prepared
from tasks.specs import CoftSpec, PoolSpec
from tests.bench.measure import say
from tests.bench.trial_data import MAX_PIXELS
from tests.bench.trial_steps import confident_rows

SIDE = 4  # positions in each direction


@dataclass(frozen=True)
class Maps:
    """A data set, its rows in the order of its file.

    Attributes:
        spec: The run that coft makes of it, with its defaults.
        classes: Names.
        maps: Features of SIDE x SIDE positions of each image, fp16.
        labels: True ones.
        is_test: Which images are never learned from.
    """

    spec: CoftSpec
    classes: tuple[str, ...]
    maps: Tensor
    labels: Tensor
    is_test: Tensor

    @cached_property
    def features(self) -> Tensor:
        """Return what CLIP compares with texts: the mean over positions, normalised."""
        return F.normalize(self.maps.float().mean(dim=1), dim=1)

    @cached_property
    def zero_shot(self) -> Tensor:
        """Return class probabilities of all images by sentences about the classes."""
        backbone = load(self.spec.backbone.name)
        templates = self.spec.label.templates
        with torch.inference_mode():
            embeddings = zero_shot.class_embeddings(backbone, self.classes, templates)
            return Head(embeddings, backbone.logit_scale).probabilities(self.features)

    def learned(self, kind: str) -> tuple[Tensor, Tensor]:
        """Return rows and labels to learn from.

        Args:
            kind: `true` ones of the whole pool, or those that coft starts from (`kept`): of each
                class the images of which the backbone is surest, under the name that it gives them.
        """
        (pool,) = (~self.is_test).nonzero(as_tuple=True)
        if kind == "true":
            return pool, self.labels[pool]
        rows, labels = confident_rows(self.zero_shot[pool], self.spec)
        return pool[rows], labels

    def beside(self, rows: Tensor, labels: Tensor, *, seed: int) -> dict[str, float]:
        """Return the test accuracy of zero-shot, and of a linear probe on these rows and labels."""
        test = self.is_test
        right = self.zero_shot[test].argmax(dim=1) == self.labels[test]
        started = time.process_time()
        probe = probe_accuracy(
            self.features[rows], labels, self.features[test], self.labels[test], seed=seed
        )
        say(f"  probe: {probe:.4f}, {time.process_time() - started:.0f} s")
        return {"zero-shot": float(right.float().mean()), "probe": probe}


def read_maps(data: str, bench: Path, cache: Path) -> Maps:
    """Return a data set of the folder `bench`; its maps stay in `cache`."""
    spec = CoftSpec(pool=PoolSpec(images=str(bench / f"{data}.parquet")))
    kept = cache / f"{data}-maps.safetensors"
    if not kept.exists():
        _keep(spec, kept)
    with safe_open(kept, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        classes = tuple(json.loads(file.metadata()["classes"]))
    return Maps(spec, classes, tensors["maps"], tensors["labels"], tensors["is_test"])


def _keep(spec: CoftSpec, kept: Path) -> None:
    table = pq.read_table(spec.pool.images)
    classes: list[str] = json.loads(table.schema.metadata[b"classes"])
    labels = torch.tensor([classes.index(name) for name in table["label"].to_pylist()])
    is_test = torch.tensor([split == "test" for split in table["split"].to_pylist()])
    started = time.process_time()
    maps = torch.cat(list(_mapped(spec.backbone.name, table["image"])))
    spent = time.process_time() - started
    say(f"  feature maps of {len(labels):,} images: {spent:.0f} s of the processor")
    tensors = {"maps": maps, "labels": labels, "is_test": is_test}
    save_file(tensors, kept, {"classes": json.dumps(classes)})


@torch.inference_mode()
def _mapped(backbone: str, images: "pq.ChunkedArray") -> Iterator[Tensor]:
    tower = load(backbone).visual
    quick = VisualTower(
        prepared(tower.network, dtype=torch.float32),
        tower.preprocess,
        kind=tower.kind,
        dim=tower.dim,
    )
    for start in range(0, len(images), BATCH_ON_CPU):
        read = [
            read_pixels(image.as_py(), tower.preprocess, max_pixels=MAX_PIXELS)
            for image in images[start : start + BATCH_ON_CPU]
        ]
        x = quick.to_input(torch.from_numpy(np.stack(read)))
        yield feature_map(quick, x, side=SIDE).half()
