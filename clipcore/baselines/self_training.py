"""Pseudo-labels above a threshold of confidence, given anew in every epoch."""

import torch

from clipcore.baselines.evidence import Evidence, Scores, Taught, scores_of
from clipcore.baselines.linear import learn_head
from clipcore.fit import Schedule
from clipcore.head import Head

THRESHOLD = 0.95  # FixMatch's
LEARNING_RATE = 3e-3


def self_training(
    evidence: Evidence,
    seed: int,
    *,
    threshold: float = THRESHOLD,
    epochs: int = 30,
    batch_size: int = 256,
    learning_rate: float = LEARNING_RATE,
) -> Scores:
    r"""Return a linear head that learns from what it is sure of, with zero-shot's as the start.

    $$L = -\frac1{|S|} \sum_{i \in S} \log p_{\hat y_i}(x_i),\quad
        S = \{i : \max_k p_k(x_i) \ge \tau\},\quad \hat y_i = \arg\max_k p_k(x_i)$$

    The labels are those of the head as it is at the start of an epoch. Where zero-shot is sure of
    no image nothing is learned.

    Reference: FixMatch, https://arxiv.org/abs/2001.07685, Eq. 4. Its two views of an image need the
    image tower and are left out; the image tower, which FixMatch trains, is frozen.

    Args:
        evidence: What is seen.
        seed: Of the order of the images.
        threshold: $\tau$.
        epochs: Passes over what is believed.
        batch_size: Images of a step.
        learning_rate: See `linear.learn_head`.
    """
    schedule = Schedule(epochs=epochs, batch_size=batch_size, seed=seed, stream="self-training")

    def believe(head: Head) -> Taught:
        labels, confidence = head.predict(evidence.pool)
        sure = torch.nonzero(confidence >= threshold).flatten()
        return Taught(sure, labels[sure])

    found = learn_head(
        evidence.zero_shot, evidence.pool, believe, schedule, learning_rate=learning_rate
    )
    return scores_of(found.head, evidence, taught=found.taught, num_parameters=found.num_parameters)
