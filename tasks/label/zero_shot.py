"""First labels, by sentences about the classes."""

import torch

from clipcore import zero_shot
from clipcore.head import Head
from tasks.backbone import load_backbone
from tasks.label.by_head import label_by_head, write_head
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, LabelsRef, TaskRef
from tasks.specs import CoftSpec
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder
from tasks.storage.stage import step


@step("label zero-shot")
def label_zero_shot(
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
) -> LabelsRef:
    """Label every image, test split included, with the most probable class (CoFT Eq. 1)."""
    templates = spec.label.templates
    digest = fingerprint(Folder.LABELS, "zero-shot", embeddings.digest, task.classes, templates)
    about = (backbone.name, task.classes, templates)
    return label_by_head(
        "zero-shot", digest, _write_head, about, embeddings, images, task, spec.runtime
    )


def _write_head(
    folder: str, backbone: str, classes: tuple[str, ...], templates: tuple[str, ...]
) -> None:
    loaded = load_backbone(backbone)
    with torch.inference_mode():
        embeddings = zero_shot.class_embeddings(loaded, classes, templates)
    write_head(folder, Head(embeddings, loaded.logit_scale))
