"""Candidates of a query out of a seed."""

import torch
from torch import Tensor

from clipcore.active.candidates import Candidates
from tests.worlds.tensors import draws, random_features

CLASSES, DIM = 4, 6


def random_candidates(samples: int = 40, labeled: int = 5, seed: int = 0) -> Candidates:
    logits = 3 * torch.randn(samples, CLASSES, generator=draws(seed))
    return known_candidates(
        random_features(samples, DIM, seed + 1),
        logits.softmax(dim=1),
        torch.randn(samples, generator=draws(seed + 2)),
        random_features(labeled, DIM, seed + 3),
        torch.randint(CLASSES, (labeled,), generator=draws(seed + 4)),
    )


def known_candidates(
    features: Tensor, probabilities: Tensor, gap: Tensor, labeled_features: Tensor, labels: Tensor
) -> Candidates:
    """Return candidates that look as their features are."""
    return Candidates(
        features,
        probabilities,
        gap,
        labeled_features,
        labels,
        start_features=features,
        labeled_start_features=labeled_features,
        class_embeddings=random_features(probabilities.shape[1], features.shape[1], 9),
    )
