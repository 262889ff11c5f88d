"""First labels, by sentences about the classes."""

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from clipcore import zero_shot
from tasks.backbone import load_backbone
from tasks.compute.cluster import run_tasks
from tasks.label.table import KIND, Target, each_part, labels_once, labels_table, write_part
from tasks.refs import BackboneRef, EmbeddingsRef, LabelsRef, PoolRef
from tasks.specs import CoftSpec
from tasks.storage.columns import class_names, read_features
from tasks.storage.digests import fingerprint
from tasks.storage.files import read_bytes, write_bytes
from tasks.storage.stage import Outcome, part_uris, step
from tasks.storage.uris import join

CLASSES = "classes.safetensors"


@step("label zero-shot")
def label_zero_shot(
    images: EmbeddingsRef,
    pool: PoolRef,
    backbone: BackboneRef,
    spec: CoftSpec,
) -> LabelsRef:
    """Label every image, test split included, with the most probable class (CoFT Eq. 1)."""
    templates, runtime = spec.label.templates, spec.runtime
    digest = fingerprint(KIND, "zero-shot", images.digest, pool.classes, templates)
    folder = join(runtime.workspace, KIND, digest)

    def compute() -> Outcome:
        encode = (folder, backbone.name, pool.classes, templates)
        list(run_tasks(_write_class_embeddings, [encode], runtime=runtime, num_cpus=1))
        items = [
            (Target(folder, digest, number), pool.classes, uri)
            for number, uri in enumerate(part_uris(images.uri))
        ]
        return each_part(
            _label_part, items, label="Label zero-shot", total=images.rows, runtime=runtime
        )

    return labels_once(folder, digest, "zero-shot", compute)


def read_zero_shot(folder: str) -> tuple[Tensor, float]:
    """Return the class embeddings (classes, dim) and the logit scale of a zero-shot labelling."""
    tensors = load(read_bytes(join(folder, CLASSES)))
    return tensors["embeddings"], float(tensors["logit_scale"])


def _write_class_embeddings(
    folder: str, backbone: str, classes: tuple[str, ...], templates: tuple[str, ...]
) -> None:
    loaded = load_backbone(backbone)
    with torch.inference_mode():
        embeddings = zero_shot.class_embeddings(loaded, classes, templates)
    scale = torch.tensor(loaded.logit_scale)
    data = save({"embeddings": embeddings.clone(), "logit_scale": scale})
    write_bytes(join(folder, CLASSES), data)


def _label_part(target: Target, classes: tuple[str, ...], uri: str) -> tuple[str, int, int]:
    embeddings, scale = read_zero_shot(target.folder)
    ids, features = read_features(uri)
    labels, confidence = zero_shot.pseudo_labels(features, embeddings, scale)
    names, kept = class_names(classes, labels), np.ones(len(ids), bool)
    return write_part(target, labels_table(ids, "zero-shot", names, confidence, kept=kept))
