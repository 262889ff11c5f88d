"""Logistic regression on answered images, beside zero-shot for classes that nobody has shown."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.baselines.answers import answered
from clipcore.baselines.evidence import Answers, Evidence, Scores, scores_of
from clipcore.head import Head
from clipcore.logistic import choose_strength, fit_logistic
from clipcore.seeding import generator

ENOUGH = 50  # answers, of which a tenth may be held out
STRENGTH = 10.0  # with fewer


def linear_probe(
    evidence: Evidence,
    answers: Answers,
    seed: int,
    *,
    enough: int = ENOUGH,
    strength: float = STRENGTH,
) -> Scores:
    r"""Return logistic regression over the classes $A$ that answers show.

    $$p(k \mid x) = \begin{cases} p_0(A \mid x)\, p_\text{LR}(k \mid x) & k \in A \\
        p_0(k \mid x) & \text{else} \end{cases}$$

    with $p_0$ zero-shot's probabilities: a class without an answer keeps them, the others share
    what is left. Where all classes have answers this is the linear probe of CLIP, and a linear
    head; where fewer than two have, it is zero-shot.

    Reference: CLIP, https://arxiv.org/abs/2103.00020, section 3.2 and appendix A.3.

    Args:
        evidence: What is seen.
        answers: What is known.
        seed: Of which answers are held out to choose the strength.
        enough: Answers below which none is held out.
        strength: Inverse of the regularisation where none is held out.
    """
    positions, labels = answered(answers)
    if len(labels.unique()) < 2:  # noqa: PLR2004  # classes
        return scores_of(evidence.zero_shot, evidence)
    x = evidence.pool[positions]
    if len(labels) >= enough:
        draws = generator(seed, "linear probe")
        strength = choose_strength(x, labels, draws=draws, otherwise=strength)
    head, shown = head_of(fit_logistic(x, labels, strength))
    num_parameters = head.embeddings.numel() + len(shown)
    if len(shown) == len(evidence.classes):
        return scores_of(head, evidence, num_parameters=num_parameters)

    def ask(features: Float[Tensor, "samples dim"]) -> Float[Tensor, "samples classes"]:
        scores = evidence.zero_shot.probabilities(features)
        share = scores[:, shown].sum(dim=1, keepdim=True)
        scores[:, shown] = share * head.probabilities(features)
        return scores

    return Scores(ask(evidence.pool), ask(evidence.test), num_parameters=num_parameters)


def head_of(classifier: Any) -> tuple[Head, Tensor]:
    """Return scikit-learn's logistic regression as a head, and the classes of its rows.

    Of two classes it keeps the log-odds of the second: the first has a row of zeros.
    """
    weight = torch.from_numpy(classifier.coef_).float()
    bias = torch.from_numpy(classifier.intercept_).float()
    if len(weight) == 1:
        weight = torch.cat([torch.zeros_like(weight), weight])
        bias = torch.cat([torch.zeros_like(bias), bias])
    return Head(weight, 1.0, bias), torch.from_numpy(classifier.classes_)
