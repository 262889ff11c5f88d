"""Where Harmony is not needed: each modality of the digits has a stem that was trained.

    python -m tests.bench.harmony_encoders --methods harmony sequential adapters --seeds 3

A linear stem of each modality is trained to the text embeddings of the class names on what the
modality learns from, and is frozen then. It stands where the principal components do else; the
trunk moves at 0.3 of the usual rate. Rows as in `harmony_digits`; what the stems alone come to
stands first.
"""

import json
import sys
from collections.abc import Iterable
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipcore.fit import Schedule, TrainingSet
from clipcore.harmony import samples
from clipcore.harmony.comparison import METHODS
from clipcore.harmony.stage import BATCH_SIZE, LEARNING_RATE, STEPS, drawn, minimise
from clipcore.harmony.stem import Stem
from clipcore.seeding import generator
from tests.bench.harmony_digits import digits
from tests.bench.harmony_table import SCALE, World, options, print_rows

SHARE_OF_RATE = 0.3


def main() -> None:
    """Print a row of the stems, and one of each method."""
    asked = options(__doc__, METHODS)
    world = digits()
    stems = {name: trained_stem(world, name) for name in world.data}
    alone = {name: right(world, name, stem) for name, stem in stems.items()}
    sys.stdout.write(json.dumps({"method": "stems alone", **alone}) + "\n")

    def instead(inputs: Iterable[Tensor], *, dim: int) -> Stem:
        """Return the stem of inputs of this width: no two modalities have one."""
        (width,) = {batch.shape[1] for batch in inputs}
        return next(stem for stem in stems.values() if stem.width == width)

    with mock.patch.object(samples, "fit_stem", instead):
        print_rows(world, METHODS, asked, learning_rate=SHARE_OF_RATE * LEARNING_RATE)


def trained_stem(world: World, name: str) -> Stem:
    """Return a linear stem that brings a modality to the class names' embeddings."""
    inputs, labels = (torch.cat(parts) for parts in zip(*world.data[name][0], strict=True))
    start = torch.zeros(inputs.shape[1], world.anchors.shape[1])
    start.normal_(std=inputs.shape[1] ** -0.5, generator=generator(0, "stem", name))
    weight = nn.Parameter(start)
    stem = Stem(inputs.mean(dim=0), weight)

    def loss_terms(batch: Tensor, y: Tensor, _: torch.Generator) -> dict[str, Tensor]:
        feature = F.normalize(stem(batch), dim=1)
        return {"loss": F.cross_entropy(SCALE * feature @ world.anchors.T, y)}

    data = TrainingSet(labels, lambda order: (inputs[batch] for batch in order))
    batches = drawn(len(labels), BATCH_SIZE, STEPS, generator(0, "stem", name, "order"))
    schedule = Schedule(1, BATCH_SIZE, 0, f"stem/{name}")
    minimise(loss_terms, [weight], data, batches, schedule, LEARNING_RATE)
    return Stem(stem.mean, weight.detach())


def right(world: World, name: str, stem: Stem) -> float:
    """Return the accuracy of a stem alone."""
    inputs, labels = (torch.cat(parts) for parts in zip(*world.data[name][1], strict=True))
    said = (stem(inputs) @ world.anchors.T).argmax(dim=1)
    return round(float((said == labels).float().mean()), 4)


if __name__ == "__main__":
    main()
