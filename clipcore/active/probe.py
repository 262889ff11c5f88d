"""What frozen features give at most: a linear classifier trained on all labels."""

from jaxtyping import Float, Int
from torch import Tensor

from clipcore.logistic import choose_strength, fit_logistic
from clipcore.seeding import generator


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
    strength = choose_strength(features, labels, draws=generator(seed, "probe"))
    probe = fit_logistic(features, labels, strength)
    return float(probe.score(test_features.numpy(), test_labels.numpy()))
