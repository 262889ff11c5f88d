"""Zero-shot's probabilities, spread over neighbours, alone and as the belief of other methods."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.baselines.evidence import Evidence, Scores, scores_of
from clipcore.baselines.gda import discriminant
from clipcore.baselines.stata import ALPHA, anchored
from clipcore.coft.guard import coherence
from clipcore.propagation import affinity_graph, fitting_k, join_graph, propagate

FIRM, SOFT = 10.0, 0.02  # anchor and densities of `fast`
WORTH = 100.0  # images of a class whose neighbours, if a half agrees, count as the sentences do


def label_propagation(evidence: Evidence, _seed: int) -> Scores:
    """Return zero-shot's probabilities after neighbours among the images have spread theirs.

    An image that is classified only listens to its neighbours in the pool. `coft` does the same
    between its phases, on features that were tuned (`clipcore.propagation`).

    Reference: Zhou et al. 2004, Learning with local and global consistency, section 2.
    """
    spread = _spread(evidence)
    return Scores(pool=spread, test=_join(evidence, spread))


def propagated_stata(
    evidence: Evidence, _seed: int, *, alpha: float = ALPHA, power: float = 1.0
) -> Scores:
    """Return StatA's assignments where CLIP's belief is what neighbours have spread.

    Args:
        evidence: What is known.
        alpha: How many images the text of a class is worth.
        power: Of the densities; see `mixture.gaussian_head`.
    """
    spread = _spread(evidence)
    assigned, gaussians = anchored(evidence, _logarithm(spread), alpha=alpha, power=power)
    beliefs = _logarithm(_join(evidence, spread))
    test = (beliefs + gaussians.logits(evidence.test)).softmax(dim=1)
    return Scores(pool=assigned, test=test)


def fast(evidence: Evidence, seed: int) -> Scores:
    r"""Return propagation, then StatA with a firmer anchor and softened densities, and zero-shot.

    $$p = w \, p_\text{StatA} + (1 - w) \, p_\text{zero-shot}, \qquad
        w = \frac{n \kappa^2}{n \kappa^2 + 100 K (1 - \kappa)^2}$$

    As published, StatA lets densities of many directions outvote every belief, and loses where
    classes are rare or absent. With these two numbers it loses in no cell of the balance table.
    Where a class has few images, most neighbours are of other classes, and what they say is worth
    less than the sentences: hence the weight of $n$ images of $K$ classes, which are believed the
    more the more neighbours agree ($\kappa$ of `guard.coherence`; tests/bench/RESULTS.md, "The
    arena").
    """
    found, zero_shot = propagated_stata(evidence, seed, alpha=FIRM, power=SOFT), evidence.zero_shot
    labels, _ = zero_shot.predict(evidence.pool)
    agreed = max(0.0, coherence(labels, evidence.pool, num_classes=len(evidence.classes)))
    heard = len(evidence.pool) * agreed**2
    weight = heard / (heard + WORTH * len(evidence.classes) * (1 - agreed) ** 2 or 1)
    return Scores(
        pool=weight * found.pool + (1 - weight) * zero_shot.probabilities(evidence.pool),
        test=weight * found.test + (1 - weight) * zero_shot.probabilities(evidence.test),
    )


def propagated_gda(evidence: Evidence, _seed: int) -> Scores:
    """Return what Gaussians say that are estimated from what neighbours have spread.

    Classes are as frequent as these probabilities have them.
    """
    spread = _spread(evidence)
    return scores_of(discriminant(evidence.pool, spread, spread.mean(dim=0)), evidence)


def _spread(evidence: Evidence) -> Float[Tensor, "pool classes"]:
    x = evidence.pool
    graph = affinity_graph([x], k=fitting_k(len(x), len(evidence.classes)))
    beliefs = evidence.zero_shot.probabilities(x)
    return propagate(beliefs, graph)


def _join(
    evidence: Evidence, spread: Float[Tensor, "pool classes"]
) -> Float[Tensor, "test classes"]:
    return join_graph(
        evidence.zero_shot.probabilities(evidence.test),
        [evidence.test],
        spread,
        [evidence.pool],
        k=fitting_k(len(evidence.pool), len(evidence.classes)),
    )


def _logarithm(probabilities: Tensor) -> Tensor:
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
