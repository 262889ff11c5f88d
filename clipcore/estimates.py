"""What a few labels say of two classifiers: their accuracy, and which one is better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

Z = 1.959964  # of the normal distribution: 95 % of it lie within


@dataclass(frozen=True)
class Stratum:
    """Images of one kind, and what is known of those that were drawn from them at random.

    Attributes:
        size: Images there are.
        values: Of each that has a label: 1 right, 0 wrong; of a comparison also -1.
    """

    size: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class Estimate:
    """A mean over all images, and half of the width of its 95 % interval."""

    mean: float
    half_width: float


def stratified_mean(strata: Sequence[Stratum]) -> Estimate | None:
    r"""Return the mean over all images from random draws of each stratum.

    $$\hat\mu = \sum_h W_h \bar y_h, \qquad
    \widehat{\mathrm{Var}} = \sum_h W_h^2 \frac{s_h^2}{n_h} \Big(1 - \frac{n_h}{N_h}\Big),
    \qquad W_h = N_h / N$$

    (Cochran, Sampling Techniques, 1977, chapter 5.) The variance $s_h^2$ counts two more draws of
    the lowest and the highest value, so that a few draws which are all alike claim no certainty.

    Args:
        strata: Those without images are left out.

    Returns:
        None while a stratum with images has no draw.
    """
    kinds = [one for one in strata if one.size]
    if not kinds or not all(one.values for one in kinds):
        return None
    total = sum(one.size for one in kinds)
    mean = variance = 0.0
    for one in kinds:
        weight, drawn = one.size / total, len(one.values)
        mean += weight * float(np.mean(one.values))
        spread = float(np.var([*one.values, *_ends(one.values)]))
        variance += weight**2 * spread / drawn * (1 - drawn / one.size)
    return Estimate(mean, Z * math.sqrt(variance))


def _ends(values: Sequence[int]) -> tuple[int, int]:
    return (-1, 1) if min(values) < 0 else (0, 1)


def evidence(wins: int, losses: int) -> float:
    r"""Return how many times likelier the wins and losses are if the two are not equally good.

    $$e = 2^{w+l} \int_0^1 p^w (1-p)^l \, dp = 2^{w+l} \frac{w! \, l!}{(w+l+1)!}$$

    If both are equally good, $e$ is a martingale with mean 1, so it ever reaches 20 with a
    probability of at most 5 % (Ville), however often somebody looks and whenever they stop.
    Reference: Robbins 1970, "Statistical methods related to the law of the iterated logarithm".

    Args:
        wins: Images on which the first is right and the second is wrong.
        losses: The other way round.
    """
    logarithm = (
        (wins + losses) * math.log(2)
        + math.lgamma(wins + 1)
        + math.lgamma(losses + 1)
        - math.lgamma(wins + losses + 2)
    )
    return math.exp(min(logarithm, 700.0))


def proportional_order(
    groups: Int[np.ndarray, " images"], random: np.random.Generator
) -> Int[np.ndarray, " images"]:
    r"""Return an order at random whose every beginning has each group by its share, nearly.

    The image at random place $i$ of a group of $n$ has the key $(i + u) / n$ with $u$ uniform.

    Args:
        groups: The group of each image.
        random: Gives the places and $u$.
    """
    keys = np.empty(len(groups))
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        keys[own] = (random.permutation(len(own)) + random.random(len(own))) / len(own)
    return np.argsort(keys, kind="stable")
