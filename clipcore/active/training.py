"""What a round trains on: answers and pseudo-labels, mixed in every batch (3.2 and 4.1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from clipcore.cleaning import resolve_per_class, top_k_per_class
from clipcore.fit import Batches, PixelLoader, TrainingSet, mixed_batches, resolve_epochs


@dataclass(frozen=True)
class TrainingPositions:
    """The images that a round is trained on, as positions in the order of the image ids.

    Attributes:
        answered: Images with an answer, in order.
        believed: Images whose predicted class is taken for right, in order.
    """

    answered: Int[Tensor, " answers"]
    believed: Int[Tensor, " pseudo"]

    @property
    def all(self) -> Int[Tensor, " samples"]:
        """Return the answered ones, then the believed ones."""
        return torch.cat([self.answered, self.believed])


def choose_training(  # noqa: PLR0913  # what the paper's mining depends on
    answers: Int[Tensor, " images"],
    predicted: Int[Tensor, " images"],
    confidence: Tensor,
    closed: Bool[Tensor, " images"],
    *,
    pseudo_labels: bool,
    num_classes: int,
    per_class: int,
    minimum_total: int,
) -> TrainingPositions:
    """Return what a round is trained on: all answers, and the most confident images of each class.

    Args:
        answers: Class numbers, -1 for images without an answer; all in the order of the image ids.
        predicted: The class that the round before predicted.
        confidence: How sure it was; gap or probability, only the order counts.
        closed: Images whose prediction is not used: answered, or said to be of no class.
        pseudo_labels: Whether predictions are used beside answers; without answers they always are.
        num_classes: Number of classes.
        per_class: K, the most images believed of a class.
        minimum_total: K is raised until this many images are believed in all.
    """
    answered = torch.nonzero(answers >= 0).flatten()
    if len(answered) and not pseudo_labels:
        return TrainingPositions(answered, answered[:0])
    open_positions = torch.nonzero(~closed).flatten()
    most_confident = top_k_per_class(
        confidence[open_positions],
        predicted[open_positions],
        num_classes=num_classes,
        per_class=resolve_per_class(
            per_class, num_classes=num_classes, minimum_total=minimum_total
        ),
    )
    return TrainingPositions(answered, open_positions[most_confident].sort().values)


@dataclass(frozen=True)
class RoundSet:
    """Labels that a round is trained on, answers first, and the inputs that they belong to.

    `load` gives what the image side encodes, features or pixels, of positions in that order.
    """

    answers: Int[Tensor, " answers"]
    pseudo_labels: Int[Tensor, " pseudo"]
    load: PixelLoader

    def __len__(self) -> int:
        """Return the number of labels of both kinds."""
        return len(self.answers) + len(self.pseudo_labels)

    @property
    def samples(self) -> TrainingSet:
        """Return both kinds as one training set."""
        return TrainingSet(torch.cat([self.answers, self.pseudo_labels]), self.load)

    def num_epochs(
        self, epochs: int, *, min_steps: int, labeled_batch: int, pseudo_batch: int
    ) -> int:
        """Return the epochs, raised until `min_steps` steps over the kind that lasts longer."""
        if not len(self):
            return 0
        longer = max(len(self.answers) / labeled_batch, len(self.pseudo_labels) / pseudo_batch)
        return resolve_epochs(
            epochs,
            num_samples=int(longer * pseudo_batch) or 1,
            batch_size=pseudo_batch,
            min_steps=min_steps,
        )

    def batches(self, *, labeled_batch: int, pseudo_batch: int) -> Batches:
        """Return batches of both kinds; see `mixed_batches`."""
        return mixed_batches(
            len(self.answers),
            len(self.pseudo_labels),
            labeled_batch=labeled_batch,
            other_batch=pseudo_batch,
        )
