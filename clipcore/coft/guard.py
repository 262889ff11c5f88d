"""How far to go in Phase II, decided without a label: where two networks agree most."""

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


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate of highest agreement; of equals the one nearest to Phase I.

    Raises:
        ValueError: there is no candidate.
    """
    return min(candidates, key=lambda item: (-item.agreement, item.alpha, item.epoch))
