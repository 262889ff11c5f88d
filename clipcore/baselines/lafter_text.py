"""LaFTer without its visual prompts: a classifier of sentences teaches a classifier of images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore.baselines.evidence import Evidence, Scores, Taught, scores_of
from clipcore.baselines.linear import LEARNING_RATE, learn_head
from clipcore.fit import Schedule
from clipcore.head import Head
from clipcore.seeding import generator

NOISE = 1.0  # length of the random vector beside a feature of length 1
LABEL_SMOOTHING = 0.1
MIXTURES = 32  # of each class


def text_classifier(
    evidence: Evidence,
    seed: int,
    *,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = LEARNING_RATE,
    noise: float = NOISE,
) -> Head:
    """Return a linear head that was trained on sentences, and is asked about images.

    It begins at the mean sentence of each class and sees random mixtures of the class's sentences,
    moved by noise; see `lafter_text`.
    """
    mixtures, labels = _mixtures(evidence, seed)
    schedule = Schedule(epochs=epochs, batch_size=batch_size, seed=seed, stream="sentences")
    everything = Taught(torch.arange(len(labels)), labels)
    return learn_head(
        evidence.zero_shot,
        mixtures,
        lambda _: everything,
        schedule,
        learning_rate=learning_rate,
        noise=noise,
        label_smoothing=LABEL_SMOOTHING,
    ).head


def lafter_text(  # noqa: PLR0913  # what tests vary
    evidence: Evidence,
    seed: int,
    *,
    text_epochs: int = 20,
    epochs: int = 20,
    batch_size: int = 256,
    learning_rate: float = LEARNING_RATE,
    noise: float = NOISE,
) -> Scores:
    r"""Return a linear head that learned from sentences, then from what it said of the images.

    $$E_1 = \arg\min_E \sum_{k,n} \ell(E\,(t_{kn} + \epsilon),\, k),\quad
        \hat y_i = \arg\max_k (E_1 x_i)_k$$
    $$E_2 = \arg\min_E \sum_i \ell(E\,(x_i + \epsilon),\, \hat y_i)$$

    with $\ell$ the cross-entropy with smoothed labels and $\epsilon$ noise. $E_2$ begins as $E_1$,
    whose labels stay, with no threshold.

    Reference: LaFTer, https://arxiv.org/abs/2305.18287, section 3. In its second step the paper
    learns visual prompts and norms of the image tower from a strong view of an image, labelled by
    its weak view. Here the tower is frozen, noise stands for the strong view, and the head learns.
    The paper's sentences are many for each class; here they are the evidence's, and random
    mixtures of them.

    Args:
        evidence: What is seen.
        seed: Of mixtures, noise and order.
        text_epochs: Passes over the mixtures.
        epochs: Passes over the pool.
        batch_size: Images of a step.
        learning_rate: Of AdamW, on class embeddings of length 1.
        noise: Length of the vector that moves a feature.
    """
    text = text_classifier(
        evidence,
        seed,
        epochs=text_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        noise=noise,
    )
    labels, _ = text.predict(evidence.pool)
    everything = Taught(torch.arange(len(labels)), labels)
    schedule = Schedule(epochs=epochs, batch_size=batch_size, seed=seed, stream="images")
    found = learn_head(
        text,
        evidence.pool,
        lambda _: everything,
        schedule,
        learning_rate=learning_rate,
        noise=noise,
        label_smoothing=LABEL_SMOOTHING,
    )
    return scores_of(found.head, evidence, taught=found.taught, num_parameters=found.num_parameters)


def _mixtures(evidence: Evidence, seed: int) -> tuple[Tensor, Tensor]:
    """Return normalised random convex combinations of each class's sentences, and their class."""
    count, num_classes, _ = evidence.sentences.shape
    draws = generator(seed, "lafter", "mixtures")
    shares = torch.rand(MIXTURES, count, generator=draws).pow(2).to(evidence.sentences.device)
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-8)
    mixed = torch.einsum("mn,ncd->cmd", shares, evidence.sentences)
    labels = torch.arange(num_classes).repeat_interleave(MIXTURES)
    return F.normalize(mixed.flatten(0, 1), dim=1), labels
