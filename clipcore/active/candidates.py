"""What a strategy may look at."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor


@dataclass(frozen=True)
class Candidates:
    """The images that can be asked about, in the order of their ids, and those that were answered.

    The order makes a query the same for every number of shards and workers.

    Attributes:
        features: Normalised image features.
        probabilities: Softmax of the positive logits.
        gap: Logit gap at the predicted class, as a cosine.
        labeled_features: Normalised features of the images that have an answer.
        labels: Their answers, as class numbers.
        start_features: Normalised features by which near-duplicates are found. Training draws the
            images of a class together, so these are features that no round changes.
        labeled_start_features: The same of the images that have an answer.
        class_embeddings: Normalised text features of the classes, as the learner has them.
    """

    features: Float[Tensor, "samples dim"]
    probabilities: Float[Tensor, "samples classes"]
    gap: Float[Tensor, " samples"]
    labeled_features: Float[Tensor, "labeled dim"]
    labels: Int[Tensor, " labeled"]
    start_features: Float[Tensor, "samples start"]
    labeled_start_features: Float[Tensor, "labeled start"]
    class_embeddings: Float[Tensor, "classes dim"]

    def __len__(self) -> int:
        """Return how many images can be asked about."""
        return len(self.features)

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return self.probabilities.shape[1]

    @property
    def predicted(self) -> Int[Tensor, " samples"]:
        """Return the most probable class of each image."""
        return self.probabilities.argmax(dim=1)

    def only(self, wanted: Bool[Tensor, " samples"] | Int[Tensor, " wanted"]) -> "Candidates":
        """Return some of the candidates, in the order of `wanted`; the answers stay."""
        return replace(
            self,
            features=self.features[wanted],
            probabilities=self.probabilities[wanted],
            gap=self.gap[wanted],
            start_features=self.start_features[wanted],
        )


Strategy = Callable[[Candidates, int, Generator], Int[Tensor, " chosen"]]
"""(candidates, budget, draws) in; positions of min(budget, samples) distinct candidates out.

The budget is at least 1.
"""
