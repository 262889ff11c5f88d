"""What answers say of images that look like theirs, spread over a graph of nearest neighbours."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from clipcore.active.candidates import Candidates
from clipcore.active.uncertainty import highest, margin_of
from clipcore.propagation import affinity_graph, fitting_k, propagate


def with_answers(
    probabilities: Float[Tensor, "samples classes"], answers: Int[Tensor, " samples"]
) -> Float[Tensor, "samples classes"]:
    """Return the probabilities with answers believed without doubt; -1 is no answer."""
    sure = F.one_hot(answers.clamp(min=0), probabilities.shape[1])
    return torch.where(answers[:, None] >= 0, sure.to(probabilities), probabilities)


def spread(
    beliefs: Float[Tensor, "samples classes"], features: Float[Tensor, "samples dim"]
) -> Float[Tensor, "samples classes"]:
    """Return beliefs that neighbours have spread; see `propagation.propagate`.

    Args:
        beliefs: Of `with_answers`.
        features: Normalised; their nearest neighbours are the graph. It takes blocks of cosines and
            a few numbers a sample, never all pairs.
    """
    k = fitting_k(len(features), beliefs.shape[1])
    return propagate(beliefs, affinity_graph([features], k=k))


def least_spread_margin(candidates: Candidates, budget: int, _draws: Generator) -> Tensor:
    """Ask where the two most probable classes are closest after neighbours were heard.

    Answered images are in the graph with their answers, so the doubt falls around each of them: an
    image of which the learner is unsure, among answered ones of one class, is settled already.
    Transductive doubt by label propagation (Zhou et al. 2004, section 2); the rule is ours.
    """
    answered = candidates.labels
    probabilities = candidates.probabilities
    unknown = probabilities.new_zeros(len(answered), candidates.num_classes)
    answers = torch.cat([torch.full((len(candidates),), -1), answered])
    beliefs = with_answers(torch.cat([probabilities, unknown]), answers)
    features = torch.cat([candidates.features, candidates.labeled_features])
    return highest(margin_of(spread(beliefs, features)[: len(candidates)]), budget)
