"""Classify with sentences about the classes, without training."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clipcore.backbone import Backbone

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
    names = [name.replace("_", " ") for name in classes]
    sentences = [template.format(name) for name in names for template in templates]
    features = [
        F.normalize(backbone.text(backbone.tokenize(sentences[start : start + TEXTS_PER_PASS])))
        for start in range(0, len(sentences), TEXTS_PER_PASS)
    ]
    by_class = torch.cat(features).reshape(len(names), len(templates), -1)
    return F.normalize(by_class.mean(dim=1))
