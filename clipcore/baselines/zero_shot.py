"""CLIP itself, and CLIP asked with each sentence apart."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.baselines.evidence import Evidence, Scores, scores_of
from clipcore.head import Head


def zero_shot(evidence: Evidence, _seed: int) -> Scores:
    r"""Return $\operatorname{softmax}(s\, x^T t_k)$, with $t_k$ the mean of the sentences of $k$.

    Reference: CLIP, https://arxiv.org/abs/2103.00020, section 3.1.4 (the mean of embeddings).
    """
    return scores_of(evidence.zero_shot, evidence)


def sentence_ensemble(evidence: Evidence, _seed: int) -> Scores:
    r"""Return $\frac1N \sum_n \operatorname{softmax}_k(s\, x^T t_{nk})$ over sentences $n$.

    CLIP averages embeddings instead (`zero_shot`). With one sentence a class both are the same.
    """
    heads = [Head(one, evidence.logit_scale) for one in evidence.sentences]

    def ask(features: Float[Tensor, "samples dim"]) -> Float[Tensor, "samples classes"]:
        return torch.stack([head.probabilities(features) for head in heads]).mean(dim=0)

    return Scores(pool=ask(evidence.pool), test=ask(evidence.test))
