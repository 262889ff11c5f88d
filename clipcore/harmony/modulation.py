"""Compatible historical features (ACFM): what a sample of today would have been to the past."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from clipcore.harmony.memory import ClassStatistics

ModulationName = Literal["class-wise", "learned"]

RHO = 0.5
FLOOR = 0.05  # added to a standard deviation before it divides
CODE = 16  # numbers of a modality's code


def modulate(  # noqa: PLR0913  # what comes, whose, from where to where
    h: Float[Tensor, "batch dim"],
    labels: Int[Tensor, " batch"],
    today: ClassStatistics,
    past: ClassStatistics,
    *,
    rho: float = RHO,
    generator: Generator,
    floor: float = FLOOR,
) -> Float[Tensor, "batch dim"]:
    r"""Return features of an earlier modality, made of today's samples and of its statistics.

    $$h^{(j)} = M_j[y] + S_j[y] \odot \Big(\rho \frac{h - M_t[y]}{S_t[y] + \epsilon}
        + \sqrt{1 - \rho^2}\, z\Big), \quad z \sim N(0, I)$$

    So $\gamma = \rho S_j / S_t$ and $\beta = M_j - \gamma M_t$: a modulation in closed form.
    `rho` 0 forgets the sample, 1 is AdaIN (arXiv 1703.06868, Eq. 8) for each class. Our own choice:
    the paper learns $\gamma$ and $\beta$ (`LearnedModulation`), which measured far worse.

    Args:
        h: What the stem of today's modality made.
        labels: Classes that `past` has seen.
        today: Statistics of `h`.
        past: Those of the earlier modality.
        rho: How much of the sample is kept.
        generator: Of $z$.
        floor: $\epsilon$.
    """
    mean, std = today.mean[labels], today.std[labels]
    noise = torch.randn(h.shape, generator=generator, dtype=torch.float64).to(h.device)
    standard = rho * (h.double() - mean) / (std + floor) + (1 - rho**2) ** 0.5 * noise
    historical: Tensor = past.mean[labels] + past.std[labels] * standard
    return historical.to(h.dtype).detach()


class LearnedModulation(nn.Module):
    r"""The modulation as papers describe it: $h^{(j)} = (1 + \gamma) \odot h + \beta$.

    $(\gamma, \beta) = \text{MLP}_j([h; e_j])$ with a learned code of the earlier modality; both are
    zero when new. Kept for the comparison: its loss (`compatibility`) is content with inputs that
    the trunk maps to the right place, and those are not like the inputs of the past.
    """

    def __init__(self, dim: int, generator: Generator) -> None:
        super().__init__()
        self.code = nn.Parameter(torch.randn(CODE, generator=generator))
        into = torch.randn(dim, dim + CODE, generator=generator) / (dim + CODE) ** 0.5
        self.into = nn.Parameter(into)
        self.out = nn.Parameter(torch.zeros(2 * dim, dim))

    def forward(self, h: Float[Tensor, "batch dim"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the modulated features, gamma and beta."""
        told = torch.cat([h, self.code.expand(len(h), -1)], dim=1)
        gamma, beta = (F.gelu(told @ self.into.T) @ self.out.T).chunk(2, dim=1)
        return (1 + gamma) * h + beta, gamma, beta


def compatibility(
    features: Float[Tensor, "batch out"],
    labels: Int[Tensor, " batch"],
    prototypes: ClassStatistics,
) -> Float[Tensor, ""]:
    r"""Return $\|(\hat f_j - P_j[y]) / \sqrt{\Sigma_j[y] + \epsilon}\|^2 / d$.

    Args:
        features: Of modulated inputs.
        labels: Their classes.
        prototypes: Statistics of the earlier modality's features.
    """
    mean, std = prototypes.mean[labels], prototypes.std[labels]
    return ((features.double() - mean) ** 2 / (std**2 + 1e-3)).mean().float()
