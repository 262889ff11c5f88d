"""MUST: the whole image tower learns from labels of its own moving average."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from clipcore.augment import masked_view, view_size
from clipcore.baselines.dpa import fairness
from clipcore.baselines.evidence import Evidence, Scores
from clipcore.baselines.masked_images import MaskedImages, draw_covered
from clipcore.baselines.tower import (
    BATCH_SIZE,
    head_network,
    learn,
    num_learned,
    scores_of_network,
)
from clipcore.coft.phase2 import parameter_groups
from clipcore.ema import MovingAverage
from clipcore.fit import TrainingSet
from clipcore.network import Network, encode_in_training, quick_in_training
from clipcore.seeding import generator

STEPS = 480  # it goes on gaining where methods with fixed labels do not
THRESHOLD = 0.7
MOMENTUM = 0.99
ALIGN_WEIGHT = 0.2
COVERED = 0.1  # share of the patches
LEARNING_RATE, HEAD_LEARNING_RATE, WEIGHT_DECAY = 3e-5, 1e-3, 0.05


def sure_loss(
    logits: Float[Tensor, "batch classes"],
    teacher: Float[Tensor, "batch classes"],
    threshold: float,
) -> Float[Tensor, ""]:
    r"""Return $-\frac{1}{|S|} \sum_{i \in S} \log p_{\hat y_i}(x_i)$, 0 where $S$ is empty.

    $S$ are the images whose label $\hat y$ the teacher gives a probability of at least $\tau$.
    """
    confidence, labels = teacher.max(dim=1)
    is_sure = (confidence >= threshold).to(logits.dtype)
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (losses * is_sure).sum() / is_sure.sum().clamp(min=1)


def must(  # noqa: PLR0913  # what the paper varies
    evidence: Evidence,
    seed: int,
    *,
    threshold: float = THRESHOLD,
    momentum: float = MOMENTUM,
    fairness_weight: float = 1.0,
    align_weight: float = ALIGN_WEIGHT,
    covered: float = COVERED,
    colours: bool = True,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
    head_learning_rate: float = HEAD_LEARNING_RATE,
) -> Scores:
    r"""Return the scores of a tower and a head that learned from what their average is sure of.

    $$L = L_\text{st} - \frac{\lambda_f}{C} \sum_k \log \bar p_k + L_\text{mim}
        + \lambda_a L_\text{align},\quad \theta_m \leftarrow \mu \theta_m + (1 - \mu) \theta$$

    with $L_\text{st}$ of `sure_loss`, $\bar p$ the mean prediction of a batch, and the last two of
    `masked_images.MaskedImages`. The teacher $\theta_m$ sees the image as it is, the student a view
    with other colours. On towers that are no ViT there are no patches to cover: $L_\text{mim}$ and
    $L_\text{align}$ are left out, and the view has a hole instead.

    Reference: MUST, https://arxiv.org/abs/2206.02967, section 3. It raises $\mu$ from 0.99 or 0.999
    to 0.9998 in the course of some thousand steps, of which there are few here; $\mu$ stays. It
    searches for $\tau$, the share that is covered and $\lambda_a$ on each data set. Over which
    images $L_\text{st}$ is averaged, and which of the two networks predicts in the end, are
    readings: the sure ones, and the student.

    The second term says that classes are as frequent as each other. Where they are not, and with
    batches that have fewer images than there are classes, it pulls predictions away from the
    classes that there are.

    Args:
        evidence: What is seen.
        seed: Of the order, the views and the covered patches.
        threshold: $\tau$.
        momentum: $\mu$.
        fairness_weight: $\lambda_f$.
        align_weight: $\lambda_a$.
        covered: Share of the patches of an image that are covered.
        colours: Whether a view may change colours; not where these tell classes apart.
        steps: How long.
        batch_size: Images of a step.
        learning_rate: Of AdamW on the tower, at the start of the cosine.
        head_learning_rate: The same of the head.
    """
    pixels, network = evidence.load_pixels(), head_network(evidence, evidence.zero_shot)
    groups = parameter_groups(
        network, learning_rate=learning_rate, head_learning_rate=head_learning_rate
    )
    average = MovingAverage(network, momentum=momentum)
    masks = None
    if network.visual.kind == "vit":
        masks = MaskedImages(network.visual, generator=generator(seed, "must", "decoder"))
        groups.append({"params": list(masks.parameters()), "lr": head_learning_rate})
    student, teacher = _Student(network, masks, covered), _Teacher(average)

    def terms(batch: Tensor, _labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        x = network.visual.to_input(batch)
        said = teacher.follow(network, x)
        view = masked_view(
            x,
            network.visual.preprocess,
            generator=draws,
            size=view_size(network.visual),
            flip=pixels.flip,
            colours=colours,
            hole=masks is None,
        )
        logits, mim, align = student.read(view, draws)
        loss = sure_loss(logits, said, threshold)
        fair = fairness(logits.log_softmax(dim=1))
        return {"loss": loss + fairness_weight * fair + mim + align_weight * align}

    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    data = TrainingSet(torch.zeros(len(evidence.pool), dtype=torch.long), pixels.pool)
    learn(optimizer, terms, data, seed=seed, stream="must", steps=steps, batch_size=batch_size)
    if masks is not None:
        masks.detach()
    count = num_learned(list(network.parameters()))
    return scores_of_network(network, evidence, pixels, num_parameters=count)


class _Student:
    """The network that learns, and on a ViT the patches of its input that are covered."""

    def __init__(self, network: Network, masks: MaskedImages | None, covered: float) -> None:
        self._network, self._masks, self._covered = network, masks, covered
        self._visual = quick_in_training(network.visual)

    def read(self, view: Tensor, draws: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of a view, and the losses of what was covered, 0 where nothing is."""
        if self._masks is None:
            nothing = view.new_zeros(())
            return self._logits(view), nothing, nothing
        covered = draw_covered(len(view), self._masks.grid, share=self._covered, generator=draws)
        self._masks.cover(covered.to(view.device))
        logits = self._logits(view)
        return (logits, *self._masks.losses(view))

    def _logits(self, view: Tensor) -> Tensor:
        return self._network.logits(encode_in_training(self._visual, view))


class _Teacher:
    """The moving average of the network."""

    def __init__(self, average: MovingAverage[Network]) -> None:
        self._average = average
        self._visual = quick_in_training(average.module.visual)

    @torch.no_grad()
    def follow(self, network: Network, x: Tensor) -> Tensor:
        """Take in what the last step changed; return class probabilities of images as they are."""
        self._average.update(network)
        features = encode_in_training(self._visual, x)
        return self._average.module.logits(features).softmax(dim=1)
