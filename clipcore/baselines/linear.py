"""A linear head on cached features that learns from labels which it may have given itself."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from clipcore.baselines.evidence import Taught
from clipcore.fit import Schedule, TrainingSet, fit, loader
from clipcore.head import Head
from clipcore.losses import scaled_similarity

LEARNING_RATE = 1e-3  # of AdamW, on class embeddings of length 1


class Learned(NamedTuple):
    """A head after training, and what it learned from last; nothing where it never learned."""

    head: Head
    taught: Taught | None

    @property
    def num_parameters(self) -> int:
        """Return how many numbers have learned."""
        return 0 if self.taught is None else self.head.embeddings.numel()


def learn_head(  # noqa: PLR0913  # what it learns, from what, and how
    head: Head,
    features: Float[Tensor, "samples dim"],
    believe: Callable[[Head], Taught],
    schedule: Schedule,
    *,
    learning_rate: float = LEARNING_RATE,
    noise: float = 0.0,
    label_smoothing: float = 0.0,
) -> Learned:
    r"""Minimise $-\log\operatorname{softmax}(s\, E x_i)_{y_i}$ over the class embeddings $E$.

    The embeddings begin as the head's and keep no length; the logit scale $s$ stays.

    Args:
        head: The start.
        features: Of the samples.
        believe: Asked before each epoch, with the head so far, what to learn from; training ends
            when that is nothing.
        schedule: How long and in which random order.
        learning_rate: Of AdamW, without weight decay.
        noise: Length of the random vector that is added to a feature each time it is seen; the
            sum is normalised.
        label_smoothing: Share of a label that all classes get alike.
    """
    embeddings = head.embeddings.clone().requires_grad_()
    optimizer = torch.optim.AdamW([embeddings], learning_rate, weight_decay=0.0)

    def terms(x: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        logits = scaled_similarity(disturbed(x, noise, draws), embeddings, head.logit_scale)
        return {"loss": F.cross_entropy(logits, labels, label_smoothing=label_smoothing)}

    taught = None
    for epoch in range(schedule.epochs):
        found = believe(Head(embeddings.detach(), head.logit_scale))
        if not len(found.positions):
            break
        taught = found
        load = loader(features[found.positions].__getitem__)
        data = TrainingSet(found.labels, load)
        list(fit(optimizer, terms, data, schedule, epochs=range(epoch, epoch + 1)))
    return Learned(Head(embeddings.detach(), head.logit_scale), taught)


def disturbed(
    features: Float[Tensor, "batch dim"], noise: float, draws: Generator
) -> Float[Tensor, "batch dim"]:
    """Return normalised features that a random vector of length `noise` has moved."""
    if not noise:
        return features
    shift = torch.randn(features.shape, generator=draws).to(features.device)
    return F.normalize(features + noise * F.normalize(shift, dim=1), dim=1)
