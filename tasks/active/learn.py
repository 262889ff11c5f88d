"""Train the learner of one round, on cached features or through the tower, and score with it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from clipcore import adapters
from clipcore.adapters import Adapter
from clipcore.backbone import Backbone
from clipcore.backbone_names import Kind, UnsupportedBackbone
from clipcore.cleaning import label_gap, top_k_per_class
from clipcore.dual import (
    CachedFeatures,
    ImageSide,
    Learner,
    TowerWithAdapter,
    mixed_batches,
    train_learner,
)
from clipcore.fit import PixelLoader, Schedule, TrainingSet, resolve_epochs
from clipcore.losses import scaled_similarity
from clipcore.prompts import ContextTooLong, DualPrompts
from clipcore.seeding import generator
from clipcore.text_sides import GivenText, TextSide, couple
from tasks.specs import InputError, LearnerSpec
from tasks.weights import learner_adapter


@dataclass(frozen=True)
class Known:
    """What a round is trained on: labels from answers, then from the model itself, and inputs.

    `load` gives what the image side reads, features or pixels, of positions in that order.
    """

    answers: Tensor
    pseudo_labels: Tensor
    load: PixelLoader

    def __len__(self) -> int:
        """Return how many labels there are of both kinds."""
        return len(self.answers) + len(self.pseudo_labels)


def known_of(answers: Tensor, pseudo_labels: Tensor, inputs: Callable[[Tensor], Tensor]) -> Known:
    """Return what is known, with inputs that are had by their positions at once."""

    def load(wanted: Sequence[Tensor]) -> Iterator[Tensor]:
        return (inputs(positions) for positions in wanted)

    return Known(answers, pseudo_labels, load)


@dataclass(frozen=True)
class Scores:
    """What a learner says of images.

    Attributes:
        features: As the learner sees them, normalised.
        probabilities: Softmax of the positive logits.
        gap: Logit gap at the predicted class, as a cosine.
        p_clean: The clean probability at the predicted class.
    """

    features: Tensor
    probabilities: Tensor
    gap: Tensor
    p_clean: Tensor

    @property
    def predicted(self) -> Tensor:
        """Return the most probable class of each image."""
        return self.probabilities.argmax(dim=1)


def check_learner(spec: LearnerSpec, kind: Kind) -> None:
    """Refuse a learner that a kind of tower cannot carry.

    Raises:
        InputError: visual prompts or LoRA are asked for on a tower without tokens.
    """
    if spec.on_features:
        return
    try:
        learner_adapter(spec, kind)
    except UnsupportedBackbone as error:
        raise InputError(f"--learner.kind {spec.kind}: {error}") from error


def new_learner(
    backbone: Backbone,
    classes: Sequence[str],
    spec: LearnerSpec,
    *,
    given: Tensor,
    seed: int,
    flip: bool = True,
) -> Learner:
    """Return an untrained learner; the seed alone decides how it starts, in every round alike.

    Args:
        backbone: Frozen, with what the start learned on its tower.
        classes: The class names.
        spec: Which learner.
        given: Class embeddings of the start, for a learner whose text side stays.
        seed: Of its first weights.
        flip: Whether a mirrored image shows the same class.
    """
    draws = generator(seed, "active", "learner")
    try:
        prompts = DualPrompts(
            backbone, classes, generator=draws, num_context_tokens=spec.num_context_tokens
        )
    except ContextTooLong as error:
        raise InputError(str(error)) from error
    scale = backbone.logit_scale
    if spec.on_features:
        images = CachedFeatures(backbone.embed_dim, generator=draws, learns=spec.kind == "dual")
        return Learner(prompts, images, logit_scale=scale)
    text, adapter = _through_tower(backbone, prompts, spec, given, draws)
    return Learner(text, TowerWithAdapter(backbone.visual, adapter, flip=flip), logit_scale=scale)


def _through_tower(
    backbone: Backbone, prompts: DualPrompts, spec: LearnerSpec, given: Tensor, draws: Generator
) -> tuple[TextSide, Adapter]:
    """Return the text side and the adapter of a learner that sees pixels."""
    if spec.kind == "maple":
        return couple(
            backbone,
            prompts,
            generator=draws,
            num_context_tokens=spec.coupled_tokens,
            depth=spec.coupled_depth,
        )
    arguments = learner_adapter(spec, backbone.visual.kind)
    adapter = adapters.attach(backbone.visual, generator=draws, **arguments)
    return (GivenText(given, prompts) if spec.kind == "vpt" else prompts), adapter


class Training:
    """A learner, what it learns from, and the optimizer that remembers where it is."""

    def __init__(self, learner: Learner, known: Known, spec: LearnerSpec, *, seed: int) -> None:
        self.learner = learner
        self.known = known
        self.spec = spec
        self.optimizer = torch.optim.SGD(
            learner.learned(),
            lr=spec.learning_rate,
            momentum=spec.momentum,
            weight_decay=spec.weight_decay,
        )
        self._schedule = Schedule(
            epochs=self._num_epochs(), batch_size=spec.pseudo_batch, seed=seed, stream="active"
        )

    @property
    def num_epochs(self) -> int:
        """Return the length of the whole training."""
        return self._schedule.epochs

    def run(self, epochs: range) -> Iterator[dict[str, float]]:
        """Train some of the epochs, and yield what each measured."""
        known, spec = self.known, self.spec
        batches = mixed_batches(
            len(known.answers),
            len(known.pseudo_labels),
            labeled_batch=spec.labeled_batch,
            pseudo_batch=spec.pseudo_batch,
        )
        labels = torch.cat([known.answers, known.pseudo_labels])
        yield from train_learner(
            self.learner,
            self.optimizer,
            TrainingSet(labels, known.load),
            self._schedule,
            batches=batches,
            epochs=epochs,
            dual_weight=spec.dual_weight,
            gradient_mode=spec.gradient_mode if spec.kind == "dual" else "deft",
        )

    def _num_epochs(self) -> int:
        known, spec = self.known, self.spec
        if not len(known):
            return 0
        longer = max(
            len(known.answers) / spec.labeled_batch, len(known.pseudo_labels) / spec.pseudo_batch
        )
        return resolve_epochs(
            spec.epochs,
            num_samples=int(longer * spec.pseudo_batch) or 1,
            batch_size=spec.pseudo_batch,
            min_steps=spec.min_steps,
        )


def train(learner: Learner, known: Known, spec: LearnerSpec, *, seed: int) -> None:
    """Train a learner on what is known; with nothing known it stays as it is."""
    training = Training(learner, known, spec, seed=seed)
    for _ in training.run(range(training.num_epochs)):
        pass


def score(learner: Learner, inputs: Tensor) -> Scores:
    """Return what a learner says of images, by what its image side reads of them."""
    positive, negative = learner.class_embeddings()
    return score_images(learner.images, positive, negative, learner.logit_scale, inputs)


@torch.inference_mode()
def score_images(
    images: ImageSide, positive: Tensor, negative: Tensor, logit_scale: float, inputs: Tensor
) -> Scores:
    """Return what class embeddings of both signs say of images, seen through an image side.

    Images go in blocks of one size, the last one filled up, so that an image has the same scores
    to the last bit whichever images stand beside it: kernels depend on the shape.
    """
    blocks = [
        _score_block(images, positive, negative, logit_scale, part)
        for part in inputs.split(images.block)
    ]
    return Scores(*(torch.cat(column) for column in zip(*blocks, strict=True)))


def _score_block(
    images: ImageSide, positive: Tensor, negative: Tensor, logit_scale: float, inputs: Tensor
) -> tuple[Tensor, ...]:
    """Return features, probabilities, gap and clean probability of at most a block of images."""
    count = len(inputs)
    filling = inputs.new_zeros(images.block - count, *inputs.shape[1:])
    seen = images.encode(torch.cat([inputs, filling]))
    probabilities = scaled_similarity(seen, positive, logit_scale).softmax(dim=1)
    gap = label_gap(seen, positive, negative, probabilities.argmax(dim=1))
    found = (seen, probabilities, gap, torch.sigmoid(logit_scale * gap))
    return tuple(values[:count].cpu() for values in found)


def most_believed(
    confidence: Tensor, labels: Tensor, free: Tensor, *, num_classes: int, per_class: int
) -> Tensor:
    """Return positions of the surest images of each class among those that are `free` to use."""
    positions = torch.nonzero(free).flatten()
    best = top_k_per_class(
        confidence[positions], labels[positions], num_classes=num_classes, per_class=per_class
    )
    return positions[best]
