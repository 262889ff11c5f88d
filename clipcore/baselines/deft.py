"""DeFT: dual prompts find which labels of zero-shot are right, and the whole tower learns these."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from clipcore import precision
from clipcore.baselines.evidence import Evidence, ImagePixels, Scores, Taught
from clipcore.baselines.tower import (
    BATCH_SIZE,
    STEPS,
    head_network,
    learn,
    num_learned,
    scores_of_network,
    taught_images,
)
from clipcore.coft.phase1 import new_peer
from clipcore.coft.phase2 import parameter_groups, train_network
from clipcore.dual import DualLearner
from clipcore.fit import Schedule, TrainingSet
from clipcore.losses import (
    draw_complementary_labels,
    dual_logits,
    dual_prompt_loss,
    scaled_similarity,
)
from clipcore.network import Network
from clipcore.seeding import derive_seed, generator

WARM_UP = 0.1  # of the steps of the first phase: one epoch of ten
NUM_CONTEXT_TOKENS = 16
BATCH_IN_A_PASS = 64


def filter_loss(  # noqa: PLR0913  # what the labels are judged by
    features: Float[Tensor, "batch dim"],
    positive: Float[Tensor, "classes dim"],
    negative: Float[Tensor, "classes dim"],
    labels: Int[Tensor, " batch"],
    logit_scale: float,
    *,
    draws: Generator,
    warm_up: bool,
) -> Float[Tensor, ""]:
    r"""Return the loss of a batch whose labels may be wrong.

    $$L = -\frac{1}{|S|} \sum_{i \in S} \log \operatorname{softmax}(s^+_i)_{y_i}
        + L_2(y'_i, \bar y_i),\quad S = \{i : s^+_{i y_i} > s^-_{i y_i}\},\quad
        y'_i = \begin{cases} y_i & i \in S \\ \arg\max_k s^+_{ik} \end{cases}$$

    with $L_2$ of `losses.dual_prompt_loss`, which teaches the negative prompts alone, and $\bar y_i
    \ne y'_i$ drawn at random. In the warm-up $S$ is the whole batch; 0 stands for the first term
    where it is empty.
    """
    logits = scaled_similarity(features, positive, logit_scale)
    both = dual_logits(features, positive, negative, logit_scale, mode="deft")
    with torch.no_grad():
        gap = (both[0] - both[1]).gather(1, labels[:, None])[:, 0]
        is_clean = torch.ones_like(gap, dtype=torch.bool) if warm_up else gap > 0
        believed = torch.where(is_clean, labels, logits.argmax(dim=1))
        other = draw_complementary_labels(believed, num_classes=len(positive), generator=draws)
    losses = F.cross_entropy(logits, labels, reduction="none") * is_clean
    return losses.sum() / is_clean.sum().clamp(min=1) + dual_prompt_loss(*both, believed, other)


def deft(  # noqa: PLR0913  # what the paper varies
    evidence: Evidence,
    seed: int,
    *,
    num_context_tokens: int = NUM_CONTEXT_TOKENS,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    filter_learning_rate: float = 0.03,
    learning_rate: float = 1e-4,
    head_learning_rate: float = 1e-3,
) -> Scores:
    r"""Return the scores of a whole tower that learned the labels which dual prompts kept.

    Zero-shot labels the pool. Positive and negative prompts and a light adapter of the tower learn
    from these labels (`filter_loss`); an image is kept where $s^+_y > s^-_y$ at its label. Then
    CLIP's own tower and a linear head, which begins as zero-shot, learn what was kept, by
    cross-entropy. Where nothing is kept this is zero-shot.

    Reference: DeFT, https://arxiv.org/abs/2409.19696, section 3, which is given labels with noise;
    here they are zero-shot's, whose mistakes are alike for whole classes: what makes every image of
    a class look wrong in the same way is not found. It takes ten epochs in each phase, here they
    are `steps`. The adapter is visual prompts on a ViT, as in the paper, and on other towers that
    of `adapters.Bottleneck`. The kept images are those of the end of the first phase, looked at as
    they are.

    Args:
        evidence: What is seen.
        seed: Of contexts, adapter, complementary labels, order and views.
        num_context_tokens: Words of each sign.
        steps: Of each phase.
        batch_size: Images of a step.
        filter_learning_rate: Of the first phase's SGD, at the start of the cosine.
        learning_rate: Of AdamW on the tower, in the second phase.
        head_learning_rate: The same of the head.

    Raises:
        ContextTooLong: a class name and the words do not fit the text tower together.
    """
    pixels = evidence.load_pixels()
    labels, _ = evidence.zero_shot.predict(evidence.pool)
    learner = new_peer(
        evidence.load_backbone().own_copy(),
        evidence.classes,
        generator=generator(seed, "deft", "peer"),
        prompts={"num_context_tokens": num_context_tokens},
        adapter={"name": "auto"},
        flip=pixels.flip,
    )
    data = TrainingSet(labels, pixels.pool)
    _learn_to_filter(
        learner, data, seed=seed, steps=steps, batch_size=batch_size, rate=filter_learning_rate
    )
    kept = torch.nonzero(_gaps(learner, pixels, labels) > 0).flatten()
    taught = Taught(kept, labels[kept])
    network = head_network(evidence, evidence.zero_shot)
    groups = parameter_groups(
        network, learning_rate=learning_rate, head_learning_rate=head_learning_rate
    )
    optimizer = torch.optim.AdamW(groups, weight_decay=5e-4)
    if len(kept):
        _learn_kept(network, optimizer, taught, pixels, seed, steps, batch_size)
    first = num_learned(list(learner.learned()))
    second = num_learned(list(network.parameters())) if len(kept) else 0
    return scores_of_network(
        network, evidence, pixels, taught=taught, num_parameters=first + second
    )


def _learn_to_filter(  # what learns, from what, and how long
    learner: DualLearner,
    data: TrainingSet,
    *,
    seed: int,
    steps: int,
    batch_size: int,
    rate: float,
) -> None:
    """Minimise `filter_loss` over labels that may be wrong."""
    left = [round(WARM_UP * steps)]

    def terms(pixels: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        features = learner.images.encode(pixels, draws)
        with precision.mixed(learner.device, training=True):
            positive, negative = learner.prompts()
        left[0] -= 1
        loss = filter_loss(
            features,
            positive,
            negative,
            labels.to(learner.device),
            learner.logit_scale,
            draws=draws,
            warm_up=left[0] >= 0,
        )
        return {"loss": loss}

    optimizer = torch.optim.SGD(learner.learned(), rate, momentum=0.9, weight_decay=5e-4)
    learn(optimizer, terms, data, seed=seed, stream="deft/1", steps=steps, batch_size=batch_size)


@torch.no_grad()
def _gaps(
    learner: DualLearner, pixels: ImagePixels, labels: Int[Tensor, " pool"]
) -> Float[Tensor, " pool"]:
    """Return by how much the positive prompt of each image's label beats the negative one."""
    head = learner.head()
    batches = torch.arange(len(labels)).split(BATCH_IN_A_PASS)
    found = [
        head.gap(learner.images.encode(seen), labels[batch].to(learner.device)).cpu()
        for batch, seen in zip(batches, pixels.pool(batches), strict=True)
    ]
    return torch.cat(found)


def _learn_kept(  # noqa: PLR0913, PLR0917  # what learns, from what, and how long
    network: Network,
    optimizer: torch.optim.Optimizer,
    taught: Taught,
    pixels: ImagePixels,
    seed: int,
    steps: int,
    batch_size: int,
) -> None:
    """Train the whole network on the kept images, for whole passes over as many as are needed."""
    most = steps * batch_size
    order = torch.randperm(len(taught.labels), generator=generator(seed, "deft", "kept"))[:most]
    some = Taught(taught.positions[order], taught.labels[order])
    epochs = max(1, round(most / len(order)))
    schedule = Schedule(
        epochs=epochs, batch_size=batch_size, seed=derive_seed(seed, "deft"), stream="deft/2"
    )
    data = taught_images(some, pixels.pool)
    list(train_network(network, optimizer, data, schedule, flip=pixels.flip, epochs=range(epochs)))
