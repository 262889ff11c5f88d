"""First labels, by sentences about the classes."""

from collections.abc import Sequence

import torch

from clipcore import zero_shot
from clipcore.head import Head
from tasks.backbone import load_backbone
from tasks.label.by_head import label_by_head, write_head
from tasks.refs import BackboneRef, EmbeddingsRef, ImagesRef, LabelsRef, SentencesRef, TaskRef
from tasks.sentences.candidates import sentences_of
from tasks.specs import CoftSpec
from tasks.storage.digests import fingerprint
from tasks.storage.layout import Folder
from tasks.storage.stage import step


@step("label zero-shot")
def label_zero_shot(  # the images, the classes, and what is said of them
    embeddings: EmbeddingsRef,
    images: ImagesRef,
    task: TaskRef,
    backbone: BackboneRef,
    spec: CoftSpec,
    sentences: SentencesRef | None = None,
) -> LabelsRef:
    """Label every image, test split included, with the most probable class (CoFT Eq. 1).

    Args:
        embeddings: The images as CLIP's own tower sees them.
        images: Which they are.
        task: The classes.
        backbone: Whose text tower reads the sentences about the classes.
        spec: Its templates make these sentences.
        sentences: Others, where some were chosen.
    """
    templates, others = spec.label.templates, sentences.content if sentences else ""
    said = sentences_of(sentences, task.classes, templates)
    digest = fingerprint(
        Folder.LABELS, "zero-shot", embeddings.digest, task.classes, others or templates
    )
    about = (backbone.name, said)
    return label_by_head(
        "zero-shot", digest, _write_head, about, embeddings, images, task, spec.runtime
    )


def _write_head(folder: str, backbone: str, sentences: Sequence[Sequence[str]]) -> None:
    loaded = load_backbone(backbone)
    with torch.inference_mode():
        embeddings = zero_shot.sentence_embeddings(loaded, sentences)
    write_head(folder, Head(embeddings, loaded.logit_scale))
