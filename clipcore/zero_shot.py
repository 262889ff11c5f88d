"""Classify with sentences about the classes, without training."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.templates import in_templates

TEXTS_PER_PASS = 256


def class_embeddings(
    backbone: Backbone, classes: Sequence[str], templates: Sequence[str]
) -> Float[Tensor, "classes dim"]:
    """Return one normalised embedding per class: the mean of its normalised template features.

    Args:
        backbone: The CLIP whose text tower reads the sentences.
        classes: Class names; underscores are read as spaces.
        templates: Sentences with one slot, such as "a photo of a {}.".
    """
    return sentence_embeddings(backbone, [in_templates(name, templates) for name in classes])


def sentence_embeddings(
    backbone: Backbone, sentences: Sequence[Sequence[str]]
) -> Float[Tensor, "classes dim"]:
    """Return one normalised embedding per class: the mean of the normalised sentence features.

    Args:
        backbone: The CLIP whose text tower reads the sentences.
        sentences: Of each class, one at least, and as many as it has.
    """
    texts = [sentence for own in sentences for sentence in own]
    features = [
        F.normalize(backbone.text(backbone.tokenize(texts[start : start + TEXTS_PER_PASS])))
        for start in range(0, len(texts), TEXTS_PER_PASS)
    ]
    of_class = torch.cat(features).split([len(own) for own in sentences])
    return F.normalize(torch.stack([own.mean(dim=0) for own in of_class]))
