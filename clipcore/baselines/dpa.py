"""DPA: text prototypes that learn, image prototypes that follow, and labels that both give."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from clipcore.baselines.evidence import Evidence, Scores, Taught, scores_of
from clipcore.baselines.linear import LEARNING_RATE
from clipcore.baselines.upl import PER_CLASS, surest
from clipcore.fit import Schedule, TrainingSet, fit, loader
from clipcore.head import Head

MIX, MOMENTUM = 0.5, 0.5


class Weighed(NamedTuple):
    """Labels, and how much each counts."""

    labels: Int[Tensor, " samples"]
    weights: Float[Tensor, " samples"]


def image_prototypes(
    features: Float[Tensor, "samples dim"],
    taught: Taught,
    before: Float[Tensor, "classes dim"],
    *,
    momentum: float,
) -> Float[Tensor, "classes dim"]:
    r"""Return $P_k \leftarrow \operatorname{norm}(\mu P_k + (1 - \mu)\,\bar x_k)$.

    $\bar x_k$ is the normalised mean of the images taught as $k$; a class without any stays.
    """
    x, y = features[taught.positions], taught.labels
    sums = torch.zeros_like(before).index_add(0, y, x)
    seen = torch.bincount(y, minlength=len(before)) > 0
    moved = F.normalize(momentum * before + (1 - momentum) * F.normalize(sums, dim=1), dim=1)
    return torch.where(seen[:, None], moved, before)


def rank_weights(
    agreement: Float[Tensor, " samples"], labels: Int[Tensor, " samples"]
) -> Float[Tensor, " samples"]:
    r"""Return $1 - r_i / n_{\hat y_i}$, with $r_i$ the rank of an image in its class from 0 on.

    The image with the highest agreement has weight 1, the last of $n$ has $1/n$.
    """
    weights = torch.zeros_like(agreement)
    for label in labels.unique():
        own = torch.nonzero(labels == label).flatten()
        order = own[torch.argsort(agreement[own], descending=True, stable=True)]
        rank = torch.arange(len(order), device=order.device)
        weights[order] = 1 - rank.to(agreement.dtype) / len(order)
    return weights


def alignment(
    text: Float[Tensor, "classes dim"], image: Float[Tensor, "classes dim"], scale: float
) -> Float[Tensor, ""]:
    r"""Return $-\frac1C \sum_k \log\operatorname{softmax}_j(s\, z_k^T P_j)_k$ (InfoNCE)."""
    return F.cross_entropy(scale * text @ image.T, torch.arange(len(text), device=text.device))


def fused_labels(
    features: Float[Tensor, "samples dim"], text: Head, image: Head, *, mix: float
) -> Weighed:
    """Return what both kinds of prototypes say of each image, weighed by `rank_weights`."""
    fused = mix * text.probabilities(features) + (1 - mix) * image.probabilities(features)
    agreement, labels = fused.max(dim=1)
    return Weighed(labels, rank_weights(agreement, labels))


def fairness(log_p: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
    r"""Return $-\frac1C \sum_k \log \bar p_k$ of the mean prediction of a batch.

    It is least, $\log C$, where all classes are predicted alike.

    Reference: MUST, https://arxiv.org/abs/2206.02967, section 3.1.
    """
    return math.log(len(log_p)) - log_p.logsumexp(dim=0).mean()


def objective(
    text: Head,
    image: Float[Tensor, "classes dim"],
    x: Float[Tensor, "batch dim"],
    believed: Weighed,
    *,
    fairness_weight: float,
    align_weight: float,
) -> Float[Tensor, ""]:
    """Return the loss of a batch; see `dpa`."""
    labels, weights = believed
    log_p = text.logits(x).log_softmax(dim=1)
    self_training = (weights * F.nll_loss(log_p, labels, reduction="none")).sum() / weights.sum()
    aligned = alignment(text.embeddings, image, text.logit_scale)
    return self_training + fairness_weight * fairness(log_p) + align_weight * aligned


def dpa(  # noqa: PLR0913  # what the paper varies
    evidence: Evidence,
    seed: int,
    *,
    mix: float = MIX,
    momentum: float = MOMENTUM,
    fairness_weight: float = 1.0,
    align_weight: float = 1.0,
    epochs: int = 15,
    batch_size: int = 256,
    learning_rate: float = LEARNING_RATE,
) -> Scores:
    r"""Return text prototypes $Z$ that learned from labels which they give with image prototypes.

    $$q_i = \alpha \operatorname{softmax}(s\, x_i^T Z) + (1 - \alpha) \operatorname{softmax}(s\,
        x_i^T P),\quad \hat y_i = \arg\max_k q_{ik}$$
    $$L = \frac{\sum_i w_i\,(-\log p_{\hat y_i}(x_i))}{\sum_i w_i}
        - \frac{\lambda_f}{C} \sum_k \log \bar p_k + \lambda_a L_\text{align}(Z, P)$$

    with $p$ the softmax of the text prototypes, which alone predict in the end, and $\bar p$ its
    mean over a batch. Labels, weights and image prototypes are made anew before each epoch.

    Reference: DPA, https://arxiv.org/abs/2408.08855, section 3. The paper tunes norms of the image
    tower; here the tower is frozen and the text prototypes themselves learn. What exactly it ranks
    by is a reading: a label weighs by the rank of $q_{i \hat y_i}$ within its class
    (`rank_weights`). The image prototypes move once an epoch, and $\alpha$ is a constant.

    Args:
        evidence: What is seen.
        seed: Of the order of the images.
        mix: $\alpha$, the share of the text prototypes in a label.
        momentum: $\mu$ of the image prototypes, for each epoch.
        fairness_weight: $\lambda_f$.
        align_weight: $\lambda_a$.
        epochs: Passes over the pool.
        batch_size: Images of a step.
        learning_rate: Of AdamW, on prototypes of length 1.
    """
    pool, scale = evidence.pool, evidence.logit_scale
    taught = surest(evidence.zero_shot, pool, PER_CLASS)
    image = image_prototypes(pool, taught, evidence.text, momentum=0.0)
    weights = torch.ones(len(pool))
    prototypes = evidence.text.clone().requires_grad_()
    optimizer = torch.optim.AdamW([prototypes], learning_rate, weight_decay=0.0)
    schedule = Schedule(epochs=epochs, batch_size=batch_size, seed=seed, stream="dpa")

    def terms(rows: Tensor, labels: Tensor, _draws: Generator) -> dict[str, Tensor]:
        loss = objective(
            Head(F.normalize(prototypes, dim=1), scale),
            image,
            pool[rows],
            Weighed(labels, weights[rows]),
            fairness_weight=fairness_weight,
            align_weight=align_weight,
        )
        return {"loss": loss}

    for epoch in range(epochs):
        text = Head(F.normalize(prototypes.detach(), dim=1), scale)
        labels, weights = fused_labels(pool, text, Head(image, scale), mix=mix)
        taught = Taught(torch.arange(len(pool)), labels)
        image = image_prototypes(pool, taught, image, momentum=momentum)
        data = TrainingSet(labels, loader(lambda rows: rows))
        list(fit(optimizer, terms, data, schedule, epochs=range(epoch, epoch + 1)))
    head = Head(F.normalize(prototypes.detach(), dim=1), scale)
    return scores_of(head, evidence, taught=taught, num_parameters=prototypes.numel())
