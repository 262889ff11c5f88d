"""A step of Phase I with a ViT-B/16, against what is aimed at on an H100 or H200."""

import torch

from clipcore.backbone import Backbone
from tasks.backbone import load_backbone
from tests.bench.measure import interleaved
from tests.bench.phase1_step import SPEC, Trainee
from tests.bench.pipeline import Bench
from tests.bench.rows import Row
from tests.bench.text_tower import class_names
from tests.bench.vit import write_vit

AIMS_MS = {100: 30.0, 1000: 150.0}
QUICK_AIMS_MS = {4: 30.0, 8: 150.0}


def measure(bench: Bench) -> list[Row]:
    """Return the rows of this benchmark."""
    name = write_vit(bench.folder / "vit", quick=bench.quick)
    clip = load_backbone(name, device=str(bench.device))
    aims = QUICK_AIMS_MS if bench.quick else AIMS_MS
    return [row for classes, aim in aims.items() for row in _step(bench, clip, classes, aim)]


def _step(bench: Bench, clip: Backbone, classes: int, aim: float) -> list[Row]:
    steps = 10 if bench.device.type == "cuda" else 1
    cuda = bench.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    trainee = Trainee.start(clip, class_names(classes), steps=steps, full_passes=False)
    name = f"Phase I step, {classes:,} classes"
    times = interleaved({name: trainee.seconds_per_step}, rounds=1 if bench.quick else 3)
    ours = 1000 * times[name]
    rows = [
        Row(
            f"{name} : aim",
            "ms",
            ours,
            aim,
            ours / aim,
            at_most=1.0,
            note=f"batch {SPEC.batch_size}, prompts and visual prompts; mean of {steps} step(s)",
        )
    ]
    if cuda:
        peak = torch.cuda.max_memory_allocated() / 2**30
        rows.append(Row(f"peak GPU memory of it, {classes:,} classes", "GiB", peak))
    return rows
