"""A step of Phase I: against the same step with both signs in passes of their own, 77 tokens long.

That is the text side of DeFT's public loop. Images, adapter, loss, optimizer and precision are the
same code on both sides, and the losses over a few steps must be equal.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import cast
from unittest.mock import patch

import torch
from torch import Tensor, nn

from clipcore import precision
from clipcore.backbone import Backbone, TextTower
from clipcore.coft.phase1 import new_peer
from clipcore.dual import DualLearner, train
from clipcore.fit import Schedule, TrainingSet
from clipcore.prompts import DualPrompts
from clipcore.seeding import generator
from tasks.specs import Phase1Spec
from tests.bench.measure import interleaved, seconds
from tests.bench.pipeline import Bench
from tests.bench.rows import Row
from tests.bench.text_tower import class_names, random_clip

TOLERANCE = 1e-4
SPEC = Phase1Spec()


class TwoFullPasses(nn.Module):
    """The prompts of coft, encoded as CoOp and DeFT do: sign after sign, at the full context."""

    def __init__(self, prompts: DualPrompts, text: TextTower) -> None:
        super().__init__()
        self.prompts = prompts
        self._text = [text]  # in a list: its weights are not this module's

    @property
    def names(self) -> Tensor:
        """Return the class names as embedded tokens."""
        return self.prompts.names

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the normalised (positive, negative) embedding of every class."""
        return (
            self._encode(self.prompts.positive_context),
            self._encode(self.prompts.negative_context),
        )

    def _encode(self, context: Tensor) -> Tensor:
        (text,) = self._text
        parts = [self.prompts.start, context[None], self.names]
        sentences = torch.cat([part.expand(len(self.names), -1, -1) for part in parts], dim=1)
        missing = text.context_length - sentences.shape[1]
        padding = text.token_embedding.weight[0].expand(len(self.names), missing, -1)
        features = text.encode_embedded(torch.cat([sentences, padding], dim=1), self.prompts.ends)
        return nn.functional.normalize(features.float(), dim=1)


@dataclass
class Trainee:
    """One side of the comparison, in training."""

    learner: DualLearner
    optimizer: torch.optim.Optimizer
    data: TrainingSet
    steps: int

    @classmethod
    def start(
        cls, clip: Backbone, classes: Sequence[str], *, steps: int, full_passes: bool
    ) -> "Trainee":
        """Return a trainee; equal arguments but for `full_passes` start from equal weights."""
        backbone = copy.deepcopy(clip)
        learner = new_peer(
            backbone,
            classes,
            generator=generator(0, "bench"),
            prompts=SPEC.prompts.model_dump(),
            adapter=SPEC.adapter.model_dump(),
        )
        if full_passes:
            learner.prompts = TwoFullPasses(cast("DualPrompts", learner.prompts), backbone.text)
        sgd = SPEC.sgd
        optimizer = torch.optim.SGD(learner.learned(), lr=sgd.learning_rate, momentum=sgd.momentum)
        side = backbone.visual.preprocess.size
        return cls(learner, optimizer, _pictures(len(classes), steps, side), steps)

    def losses(self, *, epochs: int) -> list[float]:
        """Train, and return the mean loss of each epoch."""
        schedule = Schedule(epochs=epochs, batch_size=SPEC.batch_size, seed=0, stream="bench")
        trained = train(self.learner, self.optimizer, self.data, schedule, epochs=range(epochs))
        return [means["loss"] for means in trained]

    def seconds_per_step(self) -> float:
        """Return the time of a step, the mean of one epoch."""
        return seconds(lambda: self.losses(epochs=1)) / self.steps


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    clip = random_clip(quick=bench.quick).to(bench.device)
    difference = _loss_difference(clip)
    classes = class_names(10 if bench.quick else 50)
    steps = 10 if bench.device.type == "cuda" else 1
    ours = Trainee.start(clip, classes, steps=steps, full_passes=False)
    peer = Trainee.start(clip, classes, steps=steps, full_passes=True)
    times = interleaved(
        {"ours": ours.seconds_per_step, "two passes of 77": peer.seconds_per_step},
        rounds=1 if bench.quick else 3,
    )
    prompts = cast("DualPrompts", ours.learner.prompts)
    length = 1 + SPEC.prompts.num_context_tokens + prompts.names.shape[1]
    chunked = prompts.prompts_per_chunk < 2 * len(classes)
    return [
        Row(
            f"Phase I step, {len(classes)} classes : two passes of 77 tokens",
            "s",
            times["ours"],
            times["two passes of 77"],
            times["two passes of 77"] / times["ours"],
            at_least=3.0,
            note=f"{length} tokens; losses of 3 steps differ by {difference:.1e}; "
            f"{'classes in chunks, recomputed' if chunked else 'all classes in one pass'}",
        )
    ]


def _loss_difference(clip: Backbone) -> float:
    """Return by how much the losses of both sides differ at most, over three steps in fp32.

    Raises:
        AssertionError: more than they may; then there is nothing to compare.
    """
    curves = []
    with patch.object(precision, "has_fast_bf16", lambda _: False):
        for full_passes in (False, True):
            trainee = Trainee.start(clip, class_names(4), steps=1, full_passes=full_passes)
            curves.append(trainee.losses(epochs=3))
    difference = max(abs(a - b) for a, b in zip(*curves, strict=True))
    if difference > TOLERANCE:
        raise AssertionError(f"losses differ by {difference:.1e}, at most {TOLERANCE}: {curves}")
    return float(difference)


def _pictures(num_classes: int, steps: int, side: int) -> TrainingSet:
    draws = generator(0, "bench", "pictures")
    size = steps * SPEC.batch_size
    pixels = torch.randint(0, 256, (size, side, side, 3), generator=draws, dtype=torch.uint8)
    labels = torch.tensor([n % num_classes for _, n in zip(range(size), count(), strict=False)])

    def load(batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return (pixels[batch] for batch in batches)

    return TrainingSet(labels, load)
