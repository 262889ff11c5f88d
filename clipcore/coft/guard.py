r"""How far to go, decided without a label: CLIP, Phase I, or which epoch and mix of Phase II.

Images that look alike to a tower that nobody trained are mostly of one class. A classifier that
learned the truth puts them in one class more often than the one it started from; one that learned
the mistakes of its labels by heart, or fell apart, does so less often. The measure is the same for
all candidates, since the neighbours are those in CLIP's own features, as far as zero-shot does not
read them: what it reads makes its own classes, so that by all of them neighbours agree with it more
often than with the truth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from clipcore.propagation import fitting_k, nearest

ZERO_SHOT, PHASE_1 = -2, -1  # in place of an epoch
MIN_IMAGES = 10  # below which nothing can be judged


@dataclass(frozen=True)
class Candidate:
    """What a run may end in.

    Attributes:
        epoch: Of Phase II, from 0; or `ZERO_SHOT`, or `PHASE_1`.
        alpha: How far both networks are moved from Phase I to that epoch (0: not, 1: all the way).
        coherence: Of what it says of the images that are judged.
    """

    epoch: int
    alpha: float
    coherence: float


def unread(
    features: Float[Tensor, "samples dim"], class_embeddings: Float[Tensor, "classes dim"]
) -> Float[Tensor, "samples dim"]:
    """Return normalised features without the directions along which zero-shot tells classes apart.

    Zero-shot compares a feature with class embeddings, so its labels depend on the differences of
    these alone. All of their directions are left out, but at most half of the dimensions: of more
    classes those in which they differ most.

    Args:
        features: Of the untrained tower.
        class_embeddings: Of zero-shot.
    """
    differences = class_embeddings - class_embeddings.mean(dim=0)
    _, sizes, directions = torch.linalg.svd(differences.double(), full_matrices=False)
    read = directions[: features.shape[1] // 2]
    read = read[sizes[: len(read)] > 1e-6 * max(1.0, float(class_embeddings.norm()))]
    x = features.double()
    return F.normalize(x - (x @ read.T) @ read, dim=1).to(features.dtype)


def coherence(
    labels: Int[Tensor, " samples"], features: Float[Tensor, "samples dim"], *, num_classes: int
) -> float:
    r"""Return how much more often than by chance a sample has the class of its nearest samples.

    $$\kappa = \frac{p_o - p_e}{1 - p_e},\quad
        p_o = \frac{1}{nk} \sum_i \sum_{j \in N_k(i)} [y_i = y_j],\quad p_e = \sum_c s_c^2$$

    with the $k$ nearest other samples $N_k(i)$ and the class shares $s$: 1 if neighbours always
    have the same class, 0 if classes are dealt out without regard to the samples, or if all are the
    same.

    References: $\kappa$ of Cohen 1960, A coefficient of agreement for nominal scales; density of
    soft neighbourhoods as a label-free validation, Saito et al. 2021
    (https://arxiv.org/abs/2108.10860).

    Args:
        labels: The predicted class numbers.
        features: Normalised, of a tower that was not trained; see `unread`.
        num_classes: How many classes there are.
    """
    k = fitting_k(len(labels), num_classes)
    positions = nearest(features, k=k)[1]
    if not positions.numel():
        return 0.0
    shares = labels.bincount(minlength=num_classes).double() / len(labels)
    by_chance = float(shares.square().sum())
    observed = float((labels[positions] == labels[:, None]).double().mean())
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0


def choose(candidates: Sequence[Candidate], *, num_images: int) -> Candidate:
    r"""Return the candidate that went furthest without being less coherent than the best one.

    Less means by more than one standard error of the best coherence, $\sqrt{\kappa (1 - \kappa)
    / n}$: on a few images a difference is noise, and training is believed to have helped until
    images say otherwise. Furthest is the latest epoch, then the largest `alpha`. By fewer than
    `MIN_IMAGES` images nothing can be judged, and so few come from a pool that a whole tower learns
    by heart: then Phase I is furthest, if it is a candidate.

    Args:
        candidates: Zero-shot, Phase I, and epochs and mixes of one run.
        num_images: How many images, which nothing was trained on, they were judged by.

    Raises:
        ValueError: there is no candidate.
    """
    if num_images < MIN_IMAGES:
        before = [one for one in candidates if one.alpha == 0]
        return max(before or candidates, key=_how_far)
    best = max(candidate.coherence for candidate in candidates)
    error = math.sqrt(max(best, 0.0) * (1 - best) / num_images)
    return max((c for c in candidates if c.coherence >= best - error), key=_how_far)


def _how_far(candidate: Candidate) -> tuple[int, float]:
    return candidate.epoch, candidate.alpha
