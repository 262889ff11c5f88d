"""Evidence out of a seed: classes as clouds of features, and texts that are near them."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore.backbone import Backbone
from clipcore.baselines.evidence import Evidence, ImagePixels
from tests.worlds.tensors import draws, random_pixels

DIM = 32  # of the tiny CLIP
SIZE = 32  # its pixels


def no_backbone() -> Backbone:
    raise AssertionError("a method that needs no words has asked for the text tower")


def evidence(  # noqa: PLR0913  # what tests vary
    *,
    classes: int = 3,
    per_class: int = 20,
    spread: float = 0.7,
    gap: float = 0.5,
    sentences: int = 2,
    empty: int = 0,
    test: int = 30,
    seed: int = 0,
    load_backbone: Callable[[], Backbone] = no_backbone,
) -> Evidence:
    """Return evidence about classes whose images lie around a centre, in the order of the classes.

    Args:
        classes: How many.
        per_class: Images of each class in the pool.
        spread: Length of an image's way from its centre, which has length 1.
        gap: The same of a class's sentence.
        sentences: Of each class.
        empty: So many of the classes, the last ones, have no image.
        test: Images that are classified only.
        seed: Of every draw.
        load_backbone: For methods that learn words.
    """
    generator = draws(seed)

    def near(centres: Tensor, length: float) -> Tensor:
        noise = F.normalize(torch.randn(centres.shape, generator=generator), dim=-1)
        return F.normalize(centres + length * noise, dim=-1)

    centres = F.normalize(torch.randn(classes, DIM, generator=generator))
    labels = true_labels(classes - empty, per_class)
    tested = torch.arange(test) % (classes - empty)
    looks = [coloured(own, seed=seed + part) for part, own in enumerate((labels, tested))]
    return Evidence(
        pool=near(centres[labels], spread),
        test=near(centres[tested], spread),
        sentences=near(centres.expand(sentences, -1, -1), gap),
        logit_scale=20.0,
        classes=tuple(f"thing {number}" for number in range(classes)),
        load_backbone=load_backbone,
        load_pixels=lambda: ImagePixels(*(in_memory(one) for one in looks)),
    )


def coloured(labels: Tensor, *, seed: int, noise: float = 0.3, size: int = SIZE) -> Tensor:
    """Return uint8 images: each class has a colour, and each image noise over it."""
    count = int(labels.max()) + 1 if len(labels) else 0
    colours = random_pixels(count, 1, 3).float()[labels]
    own = random_pixels(len(labels), size, seed + 1).float()
    return torch.lerp(colours.expand(own.shape), own, noise).round().to(torch.uint8)


def in_memory(pixels: Tensor) -> Callable[[Sequence[Tensor]], Iterator[Tensor]]:
    """Return a loader of pixels that are there."""
    return lambda batches: (pixels[batch] for batch in batches)


def seen_evidence(  # what tests vary
    backbone: Backbone,
    *,
    classes: int = 2,
    per_class: int = 40,
    lean: float = 0.0,
    wrong: int = 0,
    noise: float = 0.3,
) -> Evidence:
    """Return evidence whose features are the backbone's of images whose colour is their class.

    Args:
        backbone: What sees them.
        classes: How many.
        per_class: Images of each, in the pool, and as many that are classified only.
        lean: How far each class's text lies on the way to the next one, of length 1.
        wrong: Every such image of the pool has the features of an image of another class.
        noise: Share of an image that is its own.
    """
    labels = true_labels(classes, per_class)
    size = backbone.visual.preprocess.size
    looks = [coloured(labels, seed=seed, noise=noise, size=size) for seed in (0, 1)]
    with torch.no_grad():
        pool, seen = (backbone.visual(one) for one in looks)
    means = torch.stack([pool[labels == label].mean(dim=0) for label in range(classes)])
    if wrong:
        pool[::wrong] = pool.roll(per_class, dims=0)[::wrong]
    return Evidence(
        pool=pool,
        test=seen,
        sentences=F.normalize(torch.lerp(means, means.roll(1, dims=0), lean), dim=1)[None],
        logit_scale=100.0,
        classes=tuple(f"thing {number}" for number in range(classes)),
        load_backbone=lambda: backbone,
        load_pixels=lambda: ImagePixels(*(in_memory(one) for one in looks)),
    )


def true_labels(classes: int, per_class: int) -> Tensor:
    """Return the class of each image of the pool of `evidence`."""
    return torch.arange(classes).repeat_interleave(per_class)


def few_answers(given: Evidence, labels: Tensor, shots: int = 2) -> Tensor:
    """Return answers for the first images of each class, and -1 for all others."""
    answers = torch.full((len(given.pool),), -1)
    for label in labels.unique().tolist():
        first = torch.nonzero(labels == label).flatten()[:shots]
        answers[first] = label
    return answers


def share_right(scores: Tensor, labels: Tensor) -> float:
    return float((scores.argmax(dim=1) == labels).float().mean())
