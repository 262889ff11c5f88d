"""What many classes and modalities cost Harmony: `python -m tests.bench.harmony_size`.

Random features around a mean of each class, made anew each time they are read. A row of each stage:
seconds of the processor and of the clock, bytes of what is kept of the modality and of the whole
state, and the most memory that the process has had.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipcore.harmony.keeping import Harmony
from clipcore.harmony.stage import learn_stage
from clipcore.harmony.state import State, new_state, to_tensors
from clipcore.seeding import generator
from tests.bench.measure import peak_rss_mb

WIDTH = 512
PIECE = 1_000


@dataclass(frozen=True)
class Drawn:
    """Samples of a modality, in pieces that are equal each time they are read."""

    name: str
    classes: int
    count: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels."""
        draws = generator(0, "size", self.name)
        places = torch.randn(self.classes, WIDTH, generator=draws)
        for start in range(0, self.count, PIECE):
            labels = torch.arange(start, min(start + PIECE, self.count)) % self.classes
            yield places[labels] + torch.randn(len(labels), WIDTH, generator=draws), labels


def main() -> None:
    """Print a row of each stage."""
    asked = _options()
    anchors = torch.randn(asked.classes, WIDTH, generator=generator(0, "size", "anchors"))
    names = [f"class {k}" for k in range(asked.classes)]
    state = new_state(names, F.normalize(anchors), scale=100.0, seed=0)
    for number in range(asked.modalities):
        name = f"modality {number + 1}"
        processor, clock = time.process_time(), time.perf_counter()
        samples = Drawn(name, asked.classes, asked.samples)
        state = learn_stage(state, name, samples, method=Harmony(), seed=0)
        row = {
            "stage": number + 1,
            "processor s": round(time.process_time() - processor, 1),
            "clock s": round(time.perf_counter() - clock, 1),
            **sizes(state, name),
            "peak MB": round(peak_rss_mb()),
        }
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


def sizes(state: State, name: str) -> dict[str, int]:
    """Return bytes of what is kept of a modality, and of all tensors of a state."""
    tensors, _ = to_tensors(state)
    return {
        "memory bytes": state.modalities[name].num_bytes,
        "state bytes": sum(one.nbytes for one in tensors.values()),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--modalities", type=int, default=10)
    parser.add_argument("--samples", type=int, default=20_000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
