"""CoOp: words learned from answers."""

from clipcore.baselines.answers import answered
from clipcore.baselines.context import NUM_CONTEXT_TOKENS, STEPS, learn_words
from clipcore.baselines.evidence import Answers, Evidence, Scores, scores_of


def coop(
    evidence: Evidence,
    answers: Answers,
    seed: int,
    *,
    steps: int = STEPS,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
) -> Scores:
    r"""Return the head of words $v$ that all classes share and that answers have taught.

    $$p(k \mid x) \propto \exp(s\, x^T g(v_1, \dots, v_M, \text{name}_k)),\quad
        v = \arg\min_v -\sum_{i \text{ answered}} \log p(y_i \mid x_i)$$

    with $g$ the frozen text tower. A class without an answer has words too: they are those of the
    others. Without any answer the head is zero-shot's.

    Reference: CoOp, https://arxiv.org/abs/2109.01134, Eq. 2 and 3 (unified context, name last). It
    trains 50 to 200 epochs with SGD.

    Args:
        evidence: What is seen.
        answers: What is known.
        seed: Of the first words and of the order of the images.
        steps: How long.
        num_context_tokens: $M$.
    """
    head, num_parameters = learn_words(
        evidence,
        answered(answers),
        seed=seed,
        stream="coop",
        steps=steps,
        num_context_tokens=num_context_tokens,
    )
    return scores_of(head, evidence, num_parameters=num_parameters)
