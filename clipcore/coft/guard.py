"""How far to go in Phase II, decided without a label: where two networks agree most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Candidate:
    """Both networks after an epoch, mixed with their start by `alpha` (0: Phase I, 1: trained)."""

    epoch: int
    alpha: float
    agreement: float


def peer_agreement(
    one: Float[Tensor, "samples classes"], two: Float[Tensor, "samples classes"]
) -> float:
    """Return the share of samples that both networks put in the same class; NaN for none.

    On images that neither was trained on, two networks that learned the same truth agree, and two
    that learned the mistakes of their own labels by heart do not: disagreement estimates the error
    (Jiang et al. 2022, https://arxiv.org/abs/2106.13799). Mistakes that both were taught stay
    invisible, so the number is for comparing candidates of one run, not an accuracy.
    """
    return float((one.argmax(dim=1) == two.argmax(dim=1)).float().mean())


def choose(candidates: Sequence[Candidate], *, num_images: int) -> Candidate:
    r"""Return the candidate that went furthest without agreeing less than the best one.

    Less means by more than one standard error of the best agreement, $\sqrt{p (1 - p) / n}$: on a
    few images a difference is noise, and training is believed to have helped until held-out images
    say otherwise. Furthest is the latest epoch, then the largest `alpha`.

    Args:
        candidates: Epochs and mixes of one run.
        num_images: How many held-out images the agreements were measured on.

    With no held-out image at all there is nothing against the furthest one.

    Raises:
        ValueError: there is no candidate.
    """
    best = max(candidate.agreement for candidate in candidates) if num_images else 0.0
    error = math.sqrt(best * (1 - best) / max(1, num_images))
    good = [item for item in candidates if not num_images or item.agreement >= best - error]
    return max(good, key=lambda candidate: (candidate.alpha > 0, candidate.epoch, candidate.alpha))
