r"""FPL, IFPL and GRIP: words learned from few pseudo-labels, then from those of the words.

All take the $K$ surest images of each class and learn words from them, with the loss of CoOp.

$$S_i = \bigcup_k \operatorname{top}_{K_i}\{x : \arg\max p^{(i-1)}(x) = k\},\quad
    p^{(i)} = \text{words learned from nothing on } S_i,\quad p^{(0)} = \text{zero-shot}$$

FPL stops after $i = 1$. IFPL goes on with a fixed $K$. GRIP lets it grow,
$K_i = \lceil i\,|X| / (I\,C) \rceil$ of $I$ iterations and $C$ classes, so that the last iteration
has room for the whole pool; of a class that more images are predicted to be, the surest are taken.

On text prompts FPL is UPL with one member, but for the order of the images.

Reference: https://arxiv.org/abs/2306.01669, section 3.3, with text prompts. The paper trains 150
epochs with SGD in each iteration.
"""

from collections.abc import Sequence

from clipcore.baselines.context import NUM_CONTEXT_TOKENS, STEPS, learn_words
from clipcore.baselines.evidence import Evidence, Scores, scores_of
from clipcore.baselines.upl import PER_CLASS, surest

ITERATIONS = 10


def fpl(
    evidence: Evidence,
    seed: int,
    *,
    per_class: int = PER_CLASS,
    steps: int = STEPS,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
) -> Scores:
    """Return the scores of words that zero-shot's surest images teach; see `ifpl`."""
    return _iterate(evidence, seed, [per_class], steps, num_context_tokens)


def ifpl(
    evidence: Evidence,
    seed: int,
    *,
    per_class: int = PER_CLASS,
    iterations: int = ITERATIONS,
    steps: int = STEPS // 2,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
) -> Scores:
    """Return the scores of words that the surest images of the words before teach.

    Args:
        evidence: What is seen.
        seed: Of the first words and of the order of the images.
        per_class: $K$.
        iterations: $I$, how often labels are given.
        steps: Of the training of each iteration.
        num_context_tokens: Learned words before a class name.
    """
    return _iterate(evidence, seed, [per_class] * iterations, steps, num_context_tokens)


def grip(
    evidence: Evidence,
    seed: int,
    *,
    iterations: int = ITERATIONS,
    steps: int = STEPS // 2,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
) -> Scores:
    """Return the scores of words that more and more of the pool teaches; see `ifpl`."""
    sizes = growing(len(evidence.pool), len(evidence.classes), iterations)
    return _iterate(evidence, seed, sizes, steps, num_context_tokens)


def growing(num_samples: int, num_classes: int, iterations: int) -> list[int]:
    r"""Return $K_i = \lceil i\,|X| / (I\,C) \rceil$ of each iteration."""
    return [-(-i * num_samples // (iterations * num_classes)) for i in range(1, iterations + 1)]


def _iterate(
    evidence: Evidence, seed: int, sizes: Sequence[int], steps: int, num_context_tokens: int
) -> Scores:
    """Label and learn once for each K, every time from the same first words."""
    head = evidence.zero_shot
    for per_class in sizes:
        taught = surest(head, evidence.pool, per_class)
        head, num_parameters = learn_words(
            evidence,
            taught,
            seed=seed,
            stream="fpl",
            steps=steps,
            num_context_tokens=num_context_tokens,
        )
    return scores_of(head, evidence, taught=taught, num_parameters=num_parameters)
