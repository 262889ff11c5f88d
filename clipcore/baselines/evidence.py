"""What a method sees, and what it says: one contract for all that are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.head import Head


@dataclass(frozen=True)
class Evidence:
    """What a method without labels may look at. It holds no label of any image.

    Attributes:
        pool: Normalised features of the images to learn from.
        test: Normalised features of images that are classified only; nothing is learned from them.
        sentences: Normalised text embeddings: of each class one sentence, or several.
        logit_scale: Of the backbone, 1 / temperature.
        classes: Names.
        load_backbone: Returns the frozen CLIP, for methods that learn words.
    """

    pool: Float[Tensor, "pool dim"]
    test: Float[Tensor, "test dim"]
    sentences: Float[Tensor, "sentences classes dim"]
    logit_scale: float
    classes: tuple[str, ...]
    load_backbone: Callable[[], Backbone]

    @cached_property
    def text(self) -> Float[Tensor, "classes dim"]:
        """Return the normalised embedding of each class: the mean of its sentences."""
        return F.normalize(self.sentences.mean(dim=0), dim=1)

    @property
    def zero_shot(self) -> Head:
        """Return CLIP itself as a linear head."""
        return Head(self.text, self.logit_scale)


class Taught(NamedTuple):
    """Images whose class a method believed, and learned from."""

    positions: Int[Tensor, " taught"]
    labels: Int[Tensor, " taught"]


@dataclass(frozen=True)
class Scores:
    """What a method says of each image.

    Attributes:
        pool: Class probabilities of the images to learn from.
        test: Class probabilities of the images that are classified only.
        head: The linear head on unchanged features that gives the scores of an image that nothing
            was learned from; none where no such head does.
        taught: What it labelled itself and learned from; none where it takes no label for certain.
        num_parameters: Numbers that gradients have changed.
    """

    pool: Float[Tensor, "pool classes"]
    test: Float[Tensor, "test classes"]
    head: Head | None = None
    taught: Taught | None = None
    num_parameters: int = 0


Answers = Int[Tensor, " pool"]
"""Class number of each image of the pool that a person labelled; -1 for all others."""

Method = Callable[[Evidence, int], Scores]
"""(evidence, seed) in, scores out; equal seeds give equal scores. No argument has labels."""

LabelledMethod = Callable[[Evidence, Answers, int], Scores]
"""(evidence, answers, seed) in, scores out; equal seeds give equal scores."""


def scores_of(
    head: Head, evidence: Evidence, *, taught: Taught | None = None, num_parameters: int = 0
) -> Scores:
    """Return the scores that a linear head on unchanged features gives."""
    return Scores(
        pool=head.probabilities(evidence.pool),
        test=head.probabilities(evidence.test),
        head=head,
        taught=taught,
        num_parameters=num_parameters,
    )
