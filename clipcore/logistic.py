"""Logistic regression on features, with a strength that images held out have chosen."""

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # inverse of the regularisation
HOLDOUT = 0.1


def fit_logistic(
    features: Float[Tensor, "samples dim"],
    labels: Int[Tensor, " samples"],
    strength: float,
) -> Any:
    """Return scikit-learn's classifier, fitted to labels of two classes at least."""
    with warnings.catch_warnings():  # one image of each class is no sign of a regression
        warnings.filterwarnings("ignore", message="The number of unique classes is greater")
        return LogisticRegression(C=strength, max_iter=1000).fit(features.numpy(), labels.numpy())


def choose_strength(
    features: Float[Tensor, "samples dim"],
    labels: Int[Tensor, " samples"],
    *,
    draws: Generator,
    otherwise: float | None = None,
) -> float:
    """Return the strength that does best on a tenth of the samples, held out; the least of equals.

    Args:
        features: Of all samples.
        labels: Of all samples.
        draws: Which are held out.
        otherwise: Returned where nothing can be held out, or one class alone is left; by default
            the least strength.
    """
    order = torch.randperm(len(labels), generator=draws)
    held_out, rest = np.split(order.numpy(), [int(HOLDOUT * len(order))])
    if not len(held_out) or len(labels[rest].unique()) < 2:  # noqa: PLR2004  # classes
        return STRENGTHS[0] if otherwise is None else otherwise
    x, y = features[held_out].numpy(), labels[held_out].numpy()
    scores = {
        strength: fit_logistic(features[rest], labels[rest], strength).score(x, y)
        for strength in STRENGTHS
    }
    return max(scores, key=lambda strength: scores[strength])
