"""What a learner says of images: features, probabilities, and whether its prediction is right."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clipcore.head import DualHead
from clipcore.image_sides import ImageSide


@dataclass(frozen=True)
class Scores:
    """What a learner says of images.

    Attributes:
        features: As the learner sees them, normalised.
        probabilities: Softmax of the positive logits.
        gap: Logit gap at the predicted class, as a cosine.
        p_clean: The clean probability at the predicted class.
    """

    features: Float[Tensor, "samples dim"]
    probabilities: Float[Tensor, "samples classes"]
    gap: Float[Tensor, " samples"]
    p_clean: Float[Tensor, " samples"]

    @property
    def predicted(self) -> Int[Tensor, " samples"]:
        """Return the most probable class of each image."""
        return self.probabilities.argmax(dim=1)


@torch.inference_mode()
def score(images: ImageSide, head: DualHead, inputs: Tensor) -> Scores:
    """Return the scores of images by what the image side encodes of them, on the CPU.

    Images go in blocks of one size, the last one filled up, so that an image has the same scores
    to the last bit whichever images stand beside it: kernels depend on the shape.
    """
    blocks = [_score_block(images, head, part) for part in inputs.split(images.block)]
    return Scores(*(torch.cat(column) for column in zip(*blocks, strict=True)))


def _score_block(images: ImageSide, head: DualHead, inputs: Tensor) -> tuple[Tensor, ...]:
    """Return features, probabilities, gap and clean probability of at most a block of images."""
    count = len(inputs)
    filling = inputs.new_zeros(images.block - count, *inputs.shape[1:])
    features = images.encode(torch.cat([inputs, filling]))
    probabilities = head.positive.probabilities(features)
    gap = head.gap(features, probabilities.argmax(dim=1))
    columns = (features, probabilities, gap, head.clean_probability(gap))
    return tuple(values[:count].cpu() for values in columns)
