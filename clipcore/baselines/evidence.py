"""What a method sees, and what it says: one contract for all that are compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.fit import PixelLoader
from clipcore.head import Head


class NoPixels(ValueError):
    """A method that tunes the image tower was given features alone."""


@dataclass(frozen=True)
class ImagePixels:
    """The images themselves, as the image tower reads them.

    Attributes:
        pool: Batches of positions in, uint8 pixels of each batch out.
        test: The same of the images that are classified only.
        flip: Whether a mirrored image shows the same class.
    """

    pool: PixelLoader
    test: PixelLoader
    flip: bool = True


def no_pixels() -> ImagePixels:
    """Refuse, where the images themselves are not at hand."""
    raise NoPixels("Expected the images themselves: this method tunes the tower; got features.")


@dataclass(frozen=True)
class Evidence:
    """What a method without labels may look at. It holds no label of any image.

    Attributes:
        pool: Normalised features of the images to learn from.
        test: Normalised features of images that are classified only; nothing is learned from them.
        sentences: Normalised text embeddings: of each class one sentence, or several.
        logit_scale: Of the backbone, 1 / temperature.
        classes: Names.
        load_backbone: Returns the frozen CLIP, for methods that learn words or tune a tower; it is
            shared, so who changes a weight makes a copy.
        load_pixels: Returns the images themselves, for methods that tune the tower.
    """

    pool: Float[Tensor, "pool dim"]
    test: Float[Tensor, "test dim"]
    sentences: Float[Tensor, "sentences classes dim"]
    logit_scale: float
    classes: tuple[str, ...]
    load_backbone: Callable[[], Backbone]
    load_pixels: Callable[[], ImagePixels] = no_pixels

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
class Tuned:
    """A tower that learned, with its linear head: what is served in the place of the backbone's.

    Attributes:
        state: Of a `network.Network`.
        attached: Arguments of `adapters.attach` for what stays on the tower, innermost first.
        logits: Of the pool.
    """

    state: Mapping[str, Tensor]
    attached: tuple[Mapping[str, Any], ...]
    logits: Float[Tensor, "pool classes"]


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
        tuned: The tower that gives the scores, where it learned.
    """

    pool: Float[Tensor, "pool classes"]
    test: Float[Tensor, "test classes"]
    head: Head | None = None
    taught: Taught | None = None
    num_parameters: int = 0
    tuned: Tuned | None = None


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
