"""How doubtful a prediction is. Higher is more doubtful, for every measure."""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from clipcore.active.candidates import Candidates


def entropy_of(probabilities: Float[Tensor, "samples classes"]) -> Float[Tensor, " samples"]:
    r"""Return $-\sum_k p_k \log p_k$."""
    terms: Tensor = torch.special.entr(probabilities)
    return terms.sum(dim=1)


def margin_of(probabilities: Float[Tensor, "samples classes"]) -> Float[Tensor, " samples"]:
    """Return minus the distance between the two most probable classes."""
    first, second = probabilities.topk(2, dim=1).values.unbind(dim=1)
    return second - first


def highest(uncertainty: Float[Tensor, " samples"], budget: int) -> Int[Tensor, " chosen"]:
    """Return the positions of the most doubtful samples; equal ones in their own order."""
    return torch.argsort(uncertainty, descending=True, stable=True)[:budget]


def most_entropy(candidates: Candidates, budget: int, _draws: Generator) -> Tensor:
    """Ask where the predicted distribution is broadest."""
    return highest(entropy_of(candidates.probabilities), budget)


def least_margin(candidates: Candidates, budget: int, _draws: Generator) -> Tensor:
    """Ask where the two most probable classes are closest."""
    return highest(margin_of(candidates.probabilities), budget)


def least_confidence(candidates: Candidates, budget: int, _draws: Generator) -> Tensor:
    """Ask where the most probable class is least probable."""
    return highest(-candidates.probabilities.amax(dim=1), budget)


def least_agreement(candidates: Candidates, budget: int, _draws: Generator) -> Tensor:
    r"""Ask where the image is least like the text of the class that it is taken for.

    The doubt is $-\langle v, t_{\hat y}\rangle$, a cosine. Unlike the probability it does not
    compare classes: an image that is like none of them is doubtful however clear the first is.
    """
    texts = candidates.class_embeddings[candidates.predicted]
    return highest(-(candidates.features * texts).sum(dim=1), budget)


def at_random(candidates: Candidates, budget: int, draws: Generator) -> Tensor:
    """Ask about any images, all equally likely: what every strategy has to beat."""
    return torch.randperm(len(candidates), generator=draws)[:budget]
