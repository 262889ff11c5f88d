"""Train the learner of one round on cached features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore.active.learner import (
    CachedFeatures,
    ImageSide,
    Learner,
    mixed_batches,
    train_learner,
)
from clipcore.backbone import Backbone
from clipcore.cleaning import label_gap, top_k_per_class
from clipcore.fit import Schedule, TrainingSet, resolve_epochs
from clipcore.losses import scaled_similarity
from clipcore.prompts import ContextTooLong, DualPrompts
from clipcore.seeding import generator
from tasks.specs import InputError, LearnerSpec

BLOCK = 1024  # images that are scored at once


@dataclass(frozen=True)
class Known:
    """What a round is trained on: features with labels, from answers and from the model itself."""

    answered: Tensor
    answers: Tensor
    believed: Tensor
    pseudo_labels: Tensor

    def __len__(self) -> int:
        """Return how many labels there are of both kinds."""
        return len(self.answers) + len(self.pseudo_labels)


@dataclass(frozen=True)
class Scores:
    """What a learner says of images.

    Attributes:
        features: As the learner sees them, normalised.
        probabilities: Softmax of the positive logits.
        gap: Logit gap at the predicted class, as a cosine.
        p_clean: The clean probability at the predicted class.
    """

    features: Tensor
    probabilities: Tensor
    gap: Tensor
    p_clean: Tensor

    @property
    def predicted(self) -> Tensor:
        """Return the most probable class of each image."""
        return self.probabilities.argmax(dim=1)


def new_learner(
    backbone: Backbone, classes: Sequence[str], spec: LearnerSpec, *, dim: int, seed: int
) -> Learner:
    """Return an untrained learner; the seed alone decides how it starts, in every round alike."""
    draws = generator(seed, "active", "learner")
    try:
        prompts = DualPrompts(
            backbone, classes, generator=draws, num_context_tokens=spec.num_context_tokens
        )
    except ContextTooLong as error:
        raise InputError(str(error)) from error
    images = CachedFeatures(dim, generator=draws)
    return Learner(prompts, images, logit_scale=backbone.logit_scale)


def train(learner: Learner, known: Known, spec: LearnerSpec, *, seed: int) -> None:
    """Train a learner on what is known; with nothing known it stays as it is."""
    if not len(known):
        return
    features = torch.cat([known.answered, known.believed])
    labels = torch.cat([known.answers, known.pseudo_labels])
    batches = mixed_batches(
        len(known.answers),
        len(known.pseudo_labels),
        labeled_batch=spec.labeled_batch,
        pseudo_batch=spec.pseudo_batch,
    )
    longer = max(
        len(known.answers) / spec.labeled_batch, len(known.pseudo_labels) / spec.pseudo_batch
    )
    epochs = resolve_epochs(
        spec.epochs,
        num_samples=int(longer * spec.pseudo_batch) or 1,
        batch_size=spec.pseudo_batch,
        min_steps=spec.min_steps,
    )
    schedule = Schedule(epochs=epochs, batch_size=spec.pseudo_batch, seed=seed, stream="active")
    optimizer = torch.optim.SGD(
        learner.learned(),
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
    )

    def load(wanted: Sequence[Tensor]) -> Iterator[Tensor]:
        return (features[positions] for positions in wanted)

    rows = train_learner(
        learner,
        optimizer,
        TrainingSet(labels, load),
        schedule,
        batches=batches,
        epochs=range(epochs),
        dual_weight=spec.dual_weight,
        gradient_mode=spec.gradient_mode,
    )
    for _ in rows:
        pass


def score(learner: Learner, features: Tensor) -> Scores:
    """Return what a learner says of images by the features of the start."""
    positive, negative = learner.class_embeddings()
    return score_features(learner.images, positive, negative, learner.logit_scale, features)


@torch.inference_mode()
def score_features(
    images: ImageSide, positive: Tensor, negative: Tensor, logit_scale: float, features: Tensor
) -> Scores:
    """Return what class embeddings of both signs say of images, seen through an image side.

    Features go in blocks of one size, the last one filled up, so that an image has the same scores
    to the last bit whichever images stand beside it: kernels depend on the shape.
    """
    blocks = [
        _score_block(images, positive, negative, logit_scale, part)
        for part in features.split(BLOCK)
    ]
    return Scores(*(torch.cat(column) for column in zip(*blocks, strict=True)))


def _score_block(
    images: ImageSide, positive: Tensor, negative: Tensor, logit_scale: float, features: Tensor
) -> tuple[Tensor, ...]:
    """Return features, probabilities, gap and clean probability of at most a block of images."""
    count = len(features)
    seen = images.encode(F.pad(features, (0, 0, 0, BLOCK - count)))
    probabilities = scaled_similarity(seen, positive, logit_scale).softmax(dim=1)
    gap = label_gap(seen, positive, negative, probabilities.argmax(dim=1))
    found = (seen, probabilities, gap, torch.sigmoid(logit_scale * gap))
    return tuple(values[:count] for values in found)


def most_believed(
    confidence: Tensor, labels: Tensor, free: Tensor, *, num_classes: int, per_class: int
) -> Tensor:
    """Return positions of the surest images of each class among those that are `free` to use."""
    positions = torch.nonzero(free).flatten()
    best = top_k_per_class(
        confidence[positions], labels[positions], num_classes=num_classes, per_class=per_class
    )
    return positions[best]
