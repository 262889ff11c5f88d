"""UPL: words learned from the images of each class that zero-shot is surest of."""

import torch
from jaxtyping import Float
from torch import Tensor

from clipcore.baselines.context import NUM_CONTEXT_TOKENS, STEPS, learn_words
from clipcore.baselines.evidence import Evidence, Scores, Taught, scores_of
from clipcore.cleaning import top_k_per_class
from clipcore.head import Head

PER_CLASS = 16


def surest(head: Head, features: Float[Tensor, "samples dim"], per_class: int) -> Taught:
    """Return the most confident images of each predicted class, at most so many, in their order."""
    labels, confidence = head.predict(features)
    chosen = top_k_per_class(
        confidence, labels, num_classes=len(head.embeddings), per_class=per_class
    )
    chosen = chosen.sort().values
    return Taught(chosen, labels[chosen])


def upl(
    evidence: Evidence,
    seed: int,
    *,
    per_class: int = PER_CLASS,
    members: int = 1,
    steps: int = STEPS,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
) -> Scores:
    r"""Return the mean softmax of prompts that were learned from the surest images.

    $$p(x) = \frac1M \sum_m \operatorname{softmax}(s\, x^T t^{(m)}_k),\quad
        t^{(m)} = \arg\min_t -\sum_{i \in S} \log p_{\hat y_i}(x_i)$$

    with $S$ the top $K$ of each class by zero-shot's confidence. An image stands under its most
    probable class only, so none is taken twice.

    Reference: UPL, https://arxiv.org/abs/2204.03649, sections 3.2 to 3.4. Its 16 members cost 16
    trainings; the pseudo-labels of further backbones (UPL*) are left out.

    Args:
        evidence: What is seen.
        seed: Of the first words and of the order of the images.
        per_class: $K$.
        members: $M$, prompts that see the images in different orders, and begin with different
            noise where there are more words than those of a sentence.
        steps: Of each training.
        num_context_tokens: Learned words before a class name.
    """
    taught = surest(evidence.zero_shot, evidence.pool, per_class)
    learned = [
        learn_words(
            evidence,
            taught,
            seed=seed,
            stream=f"upl {member}",
            steps=steps,
            num_context_tokens=num_context_tokens,
        )
        for member in range(members)
    ]
    num_parameters = sum(count for _, count in learned)
    if members == 1:
        return scores_of(learned[0][0], evidence, taught=taught, num_parameters=num_parameters)
    heads = [head for head, _ in learned]

    def ask(features: Float[Tensor, "samples dim"]) -> Float[Tensor, "samples classes"]:
        return torch.stack([head.probabilities(features) for head in heads]).mean(dim=0)

    return Scores(
        ask(evidence.pool), ask(evidence.test), taught=taught, num_parameters=num_parameters
    )
