"""Metrics of a classifier on labels that it was not trained on."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def confusion_matrix(
    labels: Int[Tensor, " samples"], predictions: Int[Tensor, " samples"], *, num_classes: int
) -> Int[Tensor, "classes classes"]:
    """Count samples by true class (row) and predicted class (column)."""
    cells = labels * num_classes + predictions
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(confusion: Int[Tensor, "classes classes"]) -> float:
    """Return the share of samples on the diagonal; NaN without samples."""
    return float(confusion.diagonal().sum() / confusion.sum())


def recall_per_class(confusion: Int[Tensor, "classes classes"]) -> Float[Tensor, " classes"]:
    """Return the recall of each true class; NaN for a class without samples."""
    return confusion.diagonal() / confusion.sum(dim=1)


def precision_per_class(confusion: Int[Tensor, "classes classes"]) -> Float[Tensor, " classes"]:
    """Return the precision of each predicted class; NaN for a class that is never predicted."""
    return confusion.diagonal() / confusion.sum(dim=0)


def calibration_error(
    confidence: Float[Tensor, " samples"], correct: Tensor, *, num_bins: int = 15
) -> float:
    r"""Return the expected calibration error with bins of equal width.

    $$\text{ECE} = \sum_b \frac{n_b}{n} |\text{acc}_b - \text{conf}_b|$$

    Reference: Guo et al. 2017, https://arxiv.org/abs/1706.04599, Eq. 3. NaN without samples.

    Args:
        confidence: Probability of the predicted class.
        correct: Whether the prediction is right, bool of the same shape.
        num_bins: Bins between 0 and 1.
    """
    if len(confidence) == 0:
        return float("nan")
    bins = (confidence * num_bins).long().clamp(0, num_bins - 1)
    num_correct = torch.zeros(num_bins, dtype=torch.float64)
    num_correct.index_add_(0, bins, correct.double())
    confidences = torch.zeros(num_bins, dtype=torch.float64)
    confidences.index_add_(0, bins, confidence.double())
    return float((num_correct - confidences).abs().sum() / len(confidence))


def auroc(confidence: Float[Tensor, " samples"], correct: Tensor) -> float:
    """Return the area under the ROC curve of confidence as a detector of right predictions.

    That is the share of (right, wrong) pairs in which the right prediction has the higher
    confidence; a tie counts half. NaN when all predictions are right, or all are wrong.

    Args:
        confidence: Probability of the predicted class.
        correct: Whether the prediction is right, bool of the same shape.
    """
    right, wrong = confidence[correct].double(), confidence[~correct].double().sort().values
    if not len(right) or not len(wrong):
        return float("nan")
    below = torch.searchsorted(wrong, right)
    not_above = torch.searchsorted(wrong, right, right=True)
    return float((below + not_above).double().mean() / (2 * len(wrong)))


def paired_interval(
    only_first: int, only_second: int, num_samples: int, *, z: float = 1.96
) -> tuple[float, float]:
    r"""Return the confidence interval of the difference of two accuracies on the same samples.

    $$\tilde d = \frac{\tilde b - \tilde c}{\tilde n}, \quad \tilde d \pm
    \frac{z}{\tilde n} \sqrt{\tilde b + \tilde c - (\tilde b - \tilde c)^2 / \tilde n}$$

    with one half added to each of the four cells of the table of both. Reference: Agresti and Min
    2005, Simple improved confidence intervals for comparing matched proportions.

    Args:
        only_first: Samples that the first classifier alone has right.
        only_second: Samples that the second one alone has right.
        num_samples: All samples.
        z: Quantile of the normal distribution; 1.96 for 95 %.
    """
    first, second, total = only_first + 0.5, only_second + 0.5, num_samples + 2
    middle = (first - second) / total
    half = z * math.sqrt(first + second - (first - second) ** 2 / total) / total
    return middle - half, middle + half
