r"""How much an image looks like any of the classes: energy, against that of a pool.

The score of an image is $\log \sum_c e^{z_c}$ of its logits $z$, the mean over the members of a
classifier: the negative free energy of Liu et al. 2020 (https://arxiv.org/abs/2010.03759), at the
temperature of the model's own logits. With CLIP's scale it is close to the largest logit. What it
means depends on model and images, so it is told as a rank: which share of a pool looks more like
one of the classes.
"""

import torch
from jaxtyping import Float
from torch import Tensor

QUANTILES = 201  # of a pool, from the lowest to the highest
ENOUGH = 10_000  # images for them
_DIGITS = 4


def energies(logits: Float[Tensor, "members samples classes"]) -> Float[Tensor, " samples"]:
    """Return the score of each sample; higher is more like one of the classes."""
    return logits.float().logsumexp(dim=2).mean(dim=0)


def quantiles(scores: Float[Tensor, " samples"]) -> list[float]:
    """Return the distribution of a pool as `QUANTILES` numbers, the lowest first; of none, none."""
    if not len(scores):
        return []
    levels = torch.linspace(0, 1, QUANTILES, dtype=torch.float64)
    found: list[float] = torch.quantile(scores.double(), levels).tolist()
    return [round(value, _DIGITS) for value in found]


def none_of_these(
    scores: Float[Tensor, " samples"], pool: Float[Tensor, " quantiles"]
) -> Float[Tensor, " samples"]:
    """Return which share of a pool has a higher score, from 0 to 1; 1 is unlike all of it.

    Images like those of the pool have any share alike often: of them one in a hundred is above
    0.99. A share of 1 is below the lowest score of the pool.

    Args:
        scores: Of the images.
        pool: What `quantiles` returned.
    """
    pool, scores = pool.double(), scores.double()
    right = torch.searchsorted(pool, scores).clamp(1, len(pool) - 1)
    low, high = pool[right - 1], pool[right]
    inside = ((scores - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return (1 - (right - 1 + inside) / (len(pool) - 1)).float()
