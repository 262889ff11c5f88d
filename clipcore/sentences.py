r"""Which class sentences suit images that nobody has labelled, and which sense of a class name.

A set of sentences is judged by the mutual information of image and class under the zero-shot
softmax, $I = H(\bar p) - \overline{H(p)}$, as a share of $\log C$: high where images are told apart
surely and no class takes them all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

PLAIN = "plain"  # the set that others have to beat
LEAST_SHARE = 0.5  # of a class's share under the plain set
MIN_COUNT = 10  # images below which a share of a class says nothing
MIN_PER_CLASS = 5  # images on average below which no set is preferred to the plain one


@dataclass(frozen=True)
class Sums:
    """What the softmax of some images adds up to; parts of a pool are added, so no image is kept.

    Attributes:
        num_images: How many there are.
        entropy: Sum of the entropies of their softmax, in nats.
        probabilities: Sum of their softmax.
        predicted: How many have each class as the most probable one.
    """

    num_images: int
    entropy: float
    probabilities: Float[Tensor, " classes"]
    predicted: Int[Tensor, " classes"]

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums over the images of both."""
        return Sums(
            self.num_images + other.num_images,
            self.entropy + other.entropy,
            self.probabilities + other.probabilities,
            self.predicted + other.predicted,
        )

    @property
    def mutual_information(self) -> float:
        r"""Return $(H(\bar p) - \overline{H(p)}) / \log C$, between 0 and 1."""
        mean = self.probabilities / self.num_images
        of_mean = float(torch.special.entr(mean).sum())
        return (of_mean - self.entropy / self.num_images) / math.log(len(mean))

    def least_share(self, plain: "Sums") -> tuple[float, int]:
        """Return the smallest ratio of a class's share to that under the plain set, and the class.

        Classes to which the plain set gives next to no image are left out: there is no share to
        lose. Without any other class the ratio is 1.
        """
        counted = plain.predicted >= MIN_COUNT
        shares = [sums.predicted.double() / sums.num_images for sums in (self, plain)]
        ratios = torch.where(counted, shares[0] / shares[1], torch.inf)
        lowest = int(ratios.argmin())
        return (float(ratios[lowest]), lowest) if counted.any() else (1.0, lowest)


def sums_of(probabilities: Float[Tensor, "samples classes"]) -> Sums:
    """Return what the softmax of some images adds up to, in double precision."""
    p = probabilities.double()
    predicted = torch.bincount(p.argmax(dim=1), minlength=p.shape[1])
    return Sums(len(p), float(torch.special.entr(p).sum()), p.sum(dim=0), predicted)


def choose(candidates: Mapping[str, Sums]) -> str:
    """Return the set of most mutual information that keeps every class, else the plain one.

    Few images prefer none: what a set gains on them is chance.

    Args:
        candidates: What each set adds up to over the same images; one of them is `PLAIN`.
    """
    plain = candidates[PLAIN]
    if plain.num_images < MIN_PER_CLASS * len(plain.predicted):
        return PLAIN
    kept = {
        name: sums.mutual_information
        for name, sums in candidates.items()
        if name == PLAIN or sums.least_share(plain)[0] >= LEAST_SHARE
    }
    best = max(kept.values())
    return PLAIN if kept[PLAIN] == best else next(n for n, value in kept.items() if value == best)


# --- senses of a name -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Near:
    """Sums of the images that are most probably of each class, and of all; parts are added.

    Attributes:
        features: Sum of the surest images of each class.
        counts: How many these are.
        all_features: Sum of all images.
        num_images: How many these are.
    """

    features: Float[Tensor, "classes dim"]
    counts: Float[Tensor, " classes"]
    all_features: Float[Tensor, " dim"]
    num_images: int

    def __add__(self, other: "Near") -> "Near":
        """Return the sums over the images of both."""
        return Near(
            self.features + other.features,
            self.counts + other.counts,
            self.all_features + other.all_features,
            self.num_images + other.num_images,
        )

    @property
    def directions(self) -> Float[Tensor, "classes dim"]:
        """Return the mean of the surest images of each class, minus that of all images."""
        return self.features / self.counts[:, None] - self.all_features / self.num_images


def surest(
    probabilities: Float[Tensor, "samples classes"], number: int
) -> Float[Tensor, "top classes"]:
    """Return the highest probabilities of each class, falling; of few samples all."""
    return probabilities.topk(min(number, len(probabilities)), dim=0).values


def near_surest(
    features: Float[Tensor, "samples dim"],
    probabilities: Float[Tensor, "samples classes"],
    least: Float[Tensor, " classes"],
) -> Near:
    """Sum up the images whose probability of a class is not below the least of its surest."""
    chosen = (probabilities >= least).to(features.dtype)
    return Near(chosen.T @ features, chosen.sum(dim=0), features.sum(dim=0), len(features))


def nearest_sense(direction: Float[Tensor, " dim"], senses: Float[Tensor, "senses dim"]) -> int:
    """Return which sense of a name images speak for; of equal ones the first.

    Args:
        direction: From the mean of the pool to that of the surest images of the class.
        senses: A normalised embedding of each sense.
    """
    return int((senses @ direction).argmax())
