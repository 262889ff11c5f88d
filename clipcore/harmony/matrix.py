r"""The accuracy matrix $R$ of modalities that came one after another, and what is read off it.

$R_{tj}$ is the accuracy on modality $j$ after stage $t$: NaN above the diagonal, and where nothing
was measured. What was learned at once has one row. Reference: Lopez-Paz and Ranzato 2017,
https://arxiv.org/abs/1706.08840, section 2.
"""

import math
from collections.abc import Mapping, Sequence

Matrix = Sequence[Sequence[float]]
"""A row of each stage, a column of each modality, both in the order in which they came."""


def accuracy_matrix(
    stages: Sequence[Mapping[str, float]], modalities: Sequence[str]
) -> list[list[float]]:
    """Return $R$ from the accuracy by modality after each stage."""
    return [[stage.get(name, math.nan) for name in modalities] for stage in stages]


def average_accuracy(matrix: Matrix) -> float | None:
    r"""Return $A = \frac1M \sum_j R_{Tj}$ over what was measured after the last stage.

    Reference: Lopez-Paz and Ranzato 2017, Eq. 2. None where nothing was measured.
    """
    return _mean(matrix[-1] if matrix else [])


def forgetting(matrix: Matrix) -> float | None:
    r"""Return $F = \frac1{M-1} \sum_{j<M} (\max_t R_{tj} - R_{Tj})$.

    Reference: Chaudhry et al. 2018, https://arxiv.org/abs/1801.10112, Eq. 3; here the maximum goes
    over the last stage too, so what one modality gains later does not hide what another one lost.

    A modality counts if it was measured after the last stage and after one before: the last one
    never does. None where no modality does.
    """
    lost = []
    for column in zip(*matrix, strict=True):
        measured = [value for value in column if not math.isnan(value)]
        if len(measured) > 1 and not math.isnan(column[-1]):
            lost.append(max(measured) - column[-1])
    return _mean(lost)


def learned_accuracy(matrix: Matrix) -> float | None:
    r"""Return $\frac1M \sum_j R_{jj}$: how well each modality was known right after its own stage.

    None where nothing was measured then.
    """
    last = len(matrix) - 1
    modalities = len(matrix[-1]) if matrix else 0
    return _mean([matrix[min(one, last)][one] for one in range(modalities)])


def _mean(values: Sequence[float]) -> float | None:
    measured = [value for value in values if not math.isnan(value)]
    return math.fsum(measured) / len(measured) if measured else None
