"""What frozen features give at most: a linear classifier trained on all labels."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from clipcore.seeding import generator

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # inverse of the regularisation
HOLDOUT = 0.1


def probe_accuracy(
    features: Float[Tensor, "samples dim"],
    labels: Int[Tensor, " samples"],
    test_features: Float[Tensor, "test dim"],
    test_labels: Int[Tensor, " test"],
    *,
    seed: int,
) -> float:
    """Return the test accuracy of logistic regression on all samples.

    The strength of its regularisation is the best one on a tenth of the samples, held out.
    """
    x, y = features.numpy(), labels.numpy()
    order = torch.randperm(len(x), generator=generator(seed, "probe")).numpy()
    held_out, rest = np.split(order, [int(HOLDOUT * len(x))])

    def fit(rows: np.ndarray, strength: float) -> Any:
        return LogisticRegression(C=strength, max_iter=1000).fit(x[rows], y[rows])

    scores = {c: fit(rest, c).score(x[held_out], y[held_out]) for c in STRENGTHS}
    best = max(scores, key=lambda strength: scores[strength])
    return float(fit(order, best).score(test_features.numpy(), test_labels.numpy()))
