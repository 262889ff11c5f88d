"""One step of prompt tuning in a process of its own, so that its peak memory is its own.

`python -m tests.bench.text_memory_probe CLASSES BUDGET_MB [--quick]` prints {"step_mb": what the
step takes beyond the model, "process_mb": the peak of all, "seconds"}.
"""

import json
import sys
from collections.abc import Callable

import torch

from clipcore import precision
from clipcore.prompts import DualPrompts
from clipcore.seeding import generator
from tests.bench.measure import forget_peak, peak_rss_mb, rss_mb, seconds
from tests.bench.text_tower import class_names, random_clip


def main() -> None:
    """Measure the step that the command line describes."""
    num_classes, memory_mb = int(sys.argv[1]), int(sys.argv[2])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip = random_clip(quick="--quick" in sys.argv).to(device)
    names = class_names(num_classes)
    prompts = DualPrompts(clip, names, generator=generator(0, "bench"), memory_mb=memory_mb)
    prompts.to(device)

    def step() -> None:
        with precision.mixed(device, training=True):
            positive, negative = prompts()
        (positive - negative).square().sum().backward()

    before, peak = _watch(device)
    took = seconds(step)
    answer = {"step_mb": peak() - before, "process_mb": peak_rss_mb(), "seconds": took}
    sys.stdout.write(json.dumps(answer) + "\n")


def _watch(device: torch.device) -> tuple[float, Callable[[], float]]:
    """Return the memory that is taken now, and a function for the peak from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        now = torch.cuda.memory_allocated() / 2**20
        return now, lambda: torch.cuda.max_memory_allocated() / 2**20
    forget_peak()
    return rss_mb(), peak_rss_mb


if __name__ == "__main__":
    main()
