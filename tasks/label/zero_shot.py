"""First labels, by sentences about the classes."""

import numpy as np
import torch

from clipcore import zero_shot
from clipcore.head import Head
from tasks.backbone import load_backbone
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
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, LabelsRef, TaskRef
from tasks.specs import CoftSpec
from tasks.storage.checkpoints import read_tensors, write_tensors
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder, in_workspace
from tasks.storage.stage import Outcome, step

CLASSES = "classes.safetensors"


@step("label zero-shot")
def label_zero_shot(
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
) -> LabelsRef:
    """Label every image, test split included, with the most probable class (CoFT Eq. 1)."""
    templates, runtime = spec.label.templates, spec.runtime
    digest = fingerprint(Folder.LABELS, "zero-shot", embeddings.digest, task.classes, templates)
    folder = in_workspace(runtime.workspace, Folder.LABELS, digest)

    def compute() -> Outcome:
        encode = (folder, backbone.name, task.classes, templates)
        list(run_tasks(_write_class_embeddings, [encode], runtime=runtime))
        items = [
            (Target(folder, digest, shard.span), task.classes, shard)
            for shard in shards(images, embeddings)
        ]
        return label_parts(
            _label_part,
            items,
            label="Label zero-shot",
            total=embeddings.rows,
            runtime=runtime,
            about=labelling_facts(images, task),
        )

    return labels_once(folder, digest, "zero-shot", compute)


def read_zero_shot(folder: str) -> Head:
    """Return the class embeddings and the logit scale of a zero-shot labelling."""
    tensors, _ = read_tensors(folder, CLASSES)
    return Head(tensors["embeddings"], float(tensors["logit_scale"]))


def _write_class_embeddings(
    folder: str, backbone: str, classes: tuple[str, ...], templates: tuple[str, ...]
) -> None:
    loaded = load_backbone(backbone)
    with torch.inference_mode():
        embeddings = zero_shot.class_embeddings(loaded, classes, templates)
    scale = torch.tensor(loaded.logit_scale)
    write_tensors(folder, CLASSES, {"embeddings": embeddings, "logit_scale": scale}, {})


def _label_part(target: Target, classes: tuple[str, ...], shard: Shard) -> int:
    ids, features = shard.features()
    labels, confidence = read_zero_shot(target.folder).predict(features)
    kept = np.ones(len(ids), bool)
    table = labels_table(ids, "zero-shot", labels, confidence, classes=classes, kept=kept)
    return write_part(target, table)
