"""What methods that tune the image tower share: a copy that learns, and what it says in the end.

Images are drawn in random order, again and again, for a number of steps that a CPU can take, where
the papers train for thousands. The tower stays in evaluation mode: statistics of norms are CLIP's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from clipcore.baselines.evidence import Evidence, ImagePixels, Scores, Taught, Tuned
from clipcore.fit import LossTerms, PixelLoader, Schedule, TrainingSet, cycled, fit
from clipcore.head import Head
from clipcore.image_sides import TowerWithAdapter
from clipcore.inference import BatchSize, Encoder
from clipcore.losses import scaled_similarity
from clipcore.network import Network, new_network

STEPS = 120
BATCH_SIZE = 32


def learn(  # noqa: PLR0913  # what is minimised, over what, and how long
    optimizer: Optimizer,
    loss_terms: LossTerms,
    data: TrainingSet,
    *,
    seed: int,
    stream: str,
    steps: int,
    batch_size: int,
) -> None:
    """Minimise a loss for so many steps; where there is no sample, do nothing."""
    count = len(data.labels)
    if not count:
        return
    schedule = Schedule(epochs=1, batch_size=batch_size, seed=seed, stream=stream)
    batches = cycled(count, batch_size=batch_size, steps=steps)
    list(fit(optimizer, loss_terms, data, schedule, epochs=range(1), batches=batches))


def learn_labels(  # noqa: PLR0913  # what learns, from what, and how long
    images: TowerWithAdapter,
    classes: Callable[[], Float[Tensor, "classes dim"]],
    logit_scale: float,
    learned: Sequence[nn.Parameter],
    data: TrainingSet,
    *,
    seed: int,
    stream: str,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
) -> None:
    r"""Minimise $-\log\operatorname{softmax}(s\, T v(x_i))_{y_i}$ over random views of images.

    Args:
        images: $v$, the tower with what learns in it.
        classes: Returns $T$, normalised class embeddings, in each step.
        logit_scale: $s$.
        learned: The parameters of both.
        data: The images and their labels.
        seed: Of the order and of the views.
        stream: What these draws are for.
        steps: How long.
        batch_size: Images of a step.
        learning_rate: Of AdamW, at the start of the cosine.
        weight_decay: Of AdamW.
    """
    device = images.tower.mean.device

    def terms(pixels: Tensor, labels: Tensor, draws: Generator) -> dict[str, Tensor]:
        logits = scaled_similarity(images.encode(pixels, draws), classes(), logit_scale)
        return {"loss": F.cross_entropy(logits, labels.to(device, non_blocking=True))}

    optimizer = torch.optim.AdamW(learned, learning_rate, weight_decay=weight_decay)
    learn(optimizer, terms, data, seed=seed, stream=stream, steps=steps, batch_size=batch_size)


def taught_images(taught: Taught, load: PixelLoader) -> TrainingSet:
    """Return the images that a method believes to know, as a training set."""

    def pixels(batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return load([taught.positions[batch] for batch in batches])

    return TrainingSet(taught.labels, pixels)


def head_network(evidence: Evidence, head: Head) -> Network:
    """Return a copy of the tower with a linear head; it predicts as the head does on features."""
    visual = evidence.load_backbone().own_copy().visual
    return new_network(visual, head.embeddings.to(visual.mean.device), head.logit_scale)


def num_learned(parameters: Sequence[nn.Parameter]) -> int:
    """Return how many numbers the parameters are."""
    return sum(parameter.numel() for parameter in parameters)


def scores_of_network(
    network: Network,
    evidence: Evidence,
    pixels: ImagePixels,
    *,
    attached: Sequence[Mapping[str, Any]] = (),
    taught: Taught | None = None,
    num_parameters: int,
) -> Scores:
    """Return what a tuned tower and its head say of all images.

    Args:
        network: After training.
        evidence: How many images there are.
        pixels: The images.
        attached: Arguments of `adapters.attach` for what is on the tower, innermost first.
        taught: What it learned from.
        num_parameters: How many numbers have learned.
    """
    network.eval()
    pool = logits_of(network, pixels.pool, len(evidence.pool))
    state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    return Scores(
        pool=pool.softmax(dim=1),
        test=logits_of(network, pixels.test, len(evidence.test)).softmax(dim=1),
        taught=taught,
        num_parameters=num_parameters,
        tuned=Tuned(state, tuple(attached), pool),
    )


@torch.no_grad()
def logits_of(network: Network, load: PixelLoader, count: int) -> Float[Tensor, "images classes"]:
    """Return a network's logits of the first `count` images, on the CPU."""
    if not count:
        return torch.zeros(0, network.head.out_features)
    encode = Encoder(network.visual)
    batch_size = BatchSize.fitting(encode)
    batches = torch.arange(count).split(batch_size.images)
    return torch.cat(
        [
            network.logits(*batch_size.run(lambda x: (encode(x),), pixels)).cpu()
            for pixels in load(batches)
        ]
    )
