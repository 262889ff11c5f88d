"""Labels that a head gives to features: CLIP's own of sentences, or one that a peer learned."""

from collections.abc import Callable

import numpy as np
import torch

from clipcore.head import Head
from tasks.compute.calls import run_tasks
from tasks.label.table import (
    Target,
    label_parts,
    labelling_facts,
    labels_once,
    labels_table,
    write_part,
)
from tasks.pool.shards import Shard, shards
from tasks.refs import EmbeddingsRef, ImagesRef, LabelsRef, TaskRef
from tasks.specs import RuntimeSpec
from tasks.storage.checkpoints import read_tensors, write_tensors
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome

CLASSES = "classes.safetensors"


def label_by_head(  # noqa: PLR0913, PLR0917  # what a labelling depends on
    source: str,
    digest: str,
    make_head: Callable[..., None],
    about: tuple[object, ...],
    features: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    runtime: RuntimeSpec,
) -> LabelsRef:
    """Label every image with the most probable class of a head, which is written beside them.

    Args:
        source: What the labels are called.
        digest: Of what they are made from.
        make_head: Called in a worker with the folder and `about`; ends in `write_head`.
        about: What the head is made from.
        features: What the head reads.
        images: The images.
        task: The classes.
        runtime: Where to run.
    """
    folder = in_workspace(runtime.workspace, Folder.LABELS, digest)

    def compute() -> Outcome:
        list(run_tasks(make_head, [(folder, *about)], runtime=runtime))
        items = [
            (Target(folder, digest, shard.span), source, task.classes, shard)
            for shard in shards(images, features)
        ]
        return label_parts(
            _label_part,
            items,
            label=f"Label {source}",
            total=features.rows,
            runtime=runtime,
            about=labelling_facts(images, task),
        )

    return labels_once(folder, digest, source, compute)


def write_head(folder: str, head: Head) -> None:
    """Write the class embeddings and the logit scale of a labelling."""
    scale = torch.tensor(head.logit_scale)
    write_tensors(folder, CLASSES, {"embeddings": head.embeddings, "logit_scale": scale}, {})


def read_head(folder: str) -> Head:
    """Return the class embeddings and the logit scale of a labelling."""
    tensors, _ = read_tensors(folder, CLASSES)
    return Head(tensors["embeddings"], float(tensors["logit_scale"]))


def _label_part(target: Target, source: str, classes: tuple[str, ...], shard: Shard) -> int:
    ids, features = shard.features()
    labels, confidence = read_head(target.folder).predict(features)
    kept = np.ones(len(ids), bool)
    return write_part(
        target, labels_table(ids, source, labels, confidence, classes=classes, kept=kept)
    )
