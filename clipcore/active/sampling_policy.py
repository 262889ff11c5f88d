"""Queries drawn where the prompts are expected to be wrong, from answers and neighbours."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from clipcore.active.candidates import Candidates
from clipcore.active.clusters import others_mean
from clipcore.propagation import nearest

PSEUDO_WEIGHT = 0.7  # beta, the weight of pseudo-labels beside answers (the paper's)
VIEWS = 5  # of an image; the paper's are augmentations, here they are its neighbours and itself
NEIGHBOURS = 10  # of which an image is expected to be like


def prompt_guided(candidates: Candidates, budget: int, draws: Generator) -> Tensor:
    r"""Draw images, each in proportion to how wrong the prompts are expected to be about it.

    What an image $i$ with the label $y$ is worth is the gap that training has to close,
    $r_i = \max_c \cos(t_c, v_i) - \cos(t_y, v_i)$, the reward of PSP without its sign. It is known
    of answered images, and of images with a reliable pseudo-label; of any other it is expected to
    be the mean of the nearest ones, answers plus `PSEUDO_WEIGHT` times pseudo-labels. Images are
    drawn without replacement, not taken from the top: PSP's multinomial sampling.

    PSP learns this expectation by an actor and critics over eight rounds of replay. A strategy here
    has no memory, so it is estimated from what lies near. Its balanced form, PSP beside PCB, is
    `pcb:psp`.

    Reference: PSP, ICLR 2026, https://openreview.net/forum?id=7D7VLU9227, as published notes on it
    tell; the thresholds of its pseudo-labels are not in them, see `reliable_labels`.
    """
    expected = expected_gap(candidates)
    if not bool((expected > 0).any()):
        expected = torch.ones_like(expected)
    # the largest of log(w) + Gumbel noise: a draw without replacement; nothing is impossible
    weights = (expected / expected.sum()).clamp(min=1e-12)
    uniform = torch.rand(len(candidates), generator=draws, dtype=torch.double)
    noise = -torch.log(-torch.log(uniform.clamp(min=1e-300)))
    order = torch.argsort(weights.log() + noise, descending=True, stable=True)
    return order[:budget]


def expected_gap(candidates: Candidates) -> Float[Tensor, " samples"]:
    """Return how wrong the prompts are expected to be about each candidate, as a cosine."""
    features, texts = candidates.features, candidates.class_embeddings
    labels, reliable = reliable_labels(features, candidates.probabilities)
    pseudo = prompt_gap(features, texts, labels)[reliable]
    real = prompt_gap(candidates.labeled_features, texts, candidates.labels)
    told = others_mean(features, candidates.labeled_features, real, NEIGHBOURS)
    guessed = others_mean(features, features[reliable], pseudo, NEIGHBOURS)
    return told + PSEUDO_WEIGHT * guessed


def prompt_gap(
    features: Float[Tensor, "samples dim"],
    texts: Float[Tensor, "classes dim"],
    labels: Int[Tensor, " samples"],
) -> Float[Tensor, " samples"]:
    r"""Return $\max_c \cos(t_c, v) - \cos(t_y, v)$, zero where the label is the nearest text."""
    cosines = features.double() @ texts.double().T
    return cosines.amax(dim=1) - cosines.gather(1, labels[:, None]).squeeze(1)


def reliable_labels(
    features: Float[Tensor, "samples dim"], probabilities: Float[Tensor, "samples classes"]
) -> tuple[Int[Tensor, " samples"], Tensor]:
    """Return pseudo-labels by the mean of several views, and which of them are reliable.

    PSP's views are augmentations; of cached features there are none, so they are the image and its
    `VIEWS` - 1 nearest neighbours. Reliable is what is confident in the mean, and equally confident
    in every view: at least, and at most, as the median of the pool is (PSP has two thresholds).
    """
    _, others = nearest(features, k=VIEWS - 1)
    confidence = probabilities.double().amax(dim=1)
    mean = probabilities.double()
    for column in others.T:  # one neighbour at a time: memory for classes, not for their neighbours
        mean = mean + probabilities[column]
    mean = mean / (1 + others.shape[1])
    views = torch.cat([confidence[:, None], confidence[others]], dim=1)
    deviation = views.std(dim=1, correction=0)
    sure, labels = mean.max(dim=1)
    return labels, (sure >= sure.median()) & (deviation <= deviation.median())
